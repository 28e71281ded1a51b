"""Counts functions and calls between modules along three fixed paths through the code, as a measure of how hard it is to read.

`python -m benchmarks.walks` prints them as JSON and writes a result. The paths are one decision of the orchestrator (`decide`), one
batch of one report (`on_batch`), and one multipart upload by an ASGI client (`upload`). Nothing but SQLite is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import create_engine
from sqlmodel import SQLModel

from benchmarks import results
from benchmarks.walk_upload import upload_request
from contracts import CreateJob, FileRef, JobRequest, StageReport, StageTask, TaskStatus, Tenancy
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.adapters.sql_store import MODELS, SqlJobStore
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.app import BUILT_IN, read_workflows
from services.job_orchestrator.core.decide import Start, decide
from services.job_orchestrator.core.job import Decision
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Stores
from shared.database.store import table_of
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry

HOUSE = ("contracts", "services", "shared", "stageline_kit")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = Tenancy(tenant_id="t1", tenant_name="Tenant", user_name="ann")


@dataclass(frozen=True)
class Walk:
    """Counts along one path. A hop is a call from one of our modules into another."""

    functions: int
    """Distinct functions entered."""
    modules: int
    """Distinct modules entered."""
    hops: int
    returns: int
    """Hops into a module that the path has entered before."""
    back_calls: int
    """Hops into a module that is still waiting further up the stack: the modules call each other."""
    depth: int
    """Most functions that wait for each other at once."""


class Tracer:
    """Records each call of one of our functions, with the one of our functions that made it."""

    def __init__(self) -> None:
        self.entered: list[tuple[FrameType, tuple[str, ...]]] = []
        """Frames are kept, so that no two have the same id."""
        self._known: set[int] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        # A resumed coroutine enters its frame again. That is not a hop.
        if event != "call" or id(frame) in self._known or not _of_house(frame) or _is_part(frame):
            return
        self._known.add(id(frame))
        stack: list[str] = []
        above = frame.f_back
        while above is not None:
            if _of_house(above):
                stack.append(_module(above))
            above = above.f_back
        self.entered.append((frame, tuple(stack)))

    def walk(self, within: str = "") -> Walk:
        """The counts of recorded calls, limited to modules whose name begins with `within`."""
        functions: set[tuple[str, str]] = set()
        visited: set[str] = set()
        hops = returns = back_calls = depth = 0
        for frame, whole in self.entered:
            module = _module(frame)
            if not module.startswith(within):
                continue
            stack = [m for m in whole if m.startswith(within)]
            functions.add((module, frame.f_code.co_qualname))
            if stack and stack[0] != module:
                hops += 1
                returns += module in visited
                back_calls += module in stack
            visited.add(module)
            depth = max(depth, 1 + len(stack))
        return Walk(len(functions), len(visited), hops, returns, back_calls, depth)


_INNER = frozenset({"<module>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})


def _is_part(frame: FrameType) -> bool:
    """Part of the function around it, or made by `dataclass`: nobody reads these by themselves."""
    return frame.f_code.co_name in _INNER or frame.f_code.co_filename == "<string>"


def _of_house(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in HOUSE


def _module(frame: FrameType) -> str:
    return str(frame.f_globals["__name__"])


def traced(path: Callable[[], Any]) -> Tracer:
    """Trace `path()` in this thread. It runs once before, so that caches and imports are as in a running service."""
    path()
    tracer = Tracer()
    sys.setprofile(tracer)
    try:
        path()
    finally:
        sys.setprofile(None)
    return tracer


def _started() -> tuple[Decision, CreateJob, StageReport]:
    """A job of one file in `documents`, the command that made it, and the first report on it."""
    flow = next(w for w in read_workflows([BUILT_IN]) if w.name == "documents")
    file = FileRef(file_id="f0", file_name="file.pdf", blob_name="t1/0")
    command = CreateJob(
        command_id="c", job_id="job-1", owner=OWNER, issued_at=NOW, job=JobRequest(workflow="documents"), files=(file,)
    )
    first = decide(None, Start(command, flow), NOW)
    task = next(o.message for o in first.outputs if isinstance(o.message, StageTask))
    fields = task.model_dump(include={"job_id", "tenant_id", "file_id", "step", "action", "attempt", "lease"})
    report = StageReport(report_id="r", reported_at=NOW, status=TaskStatus.OK, worker="w", result={"file": {"size": 7}}, **fields)
    return first, command, report


def decide_walk() -> Tracer:
    """`decide(job, report, now)`: the first step of `documents` ended with OK."""
    first, _, report = _started()

    def path() -> None:
        assert decide(first.job, report, NOW).refused is None

    return traced(path)


def batch_walk() -> Tracer:
    """`Orchestrator.on_batch` with that report, on SQLite in memory; the transaction is rolled back each time."""
    _, command, report = _started()
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine, tables=[table_of(m) for m in MODELS])
    catalog = Catalog()
    telemetry = Telemetry.from_environment("walks", "walks")
    orchestrator = Orchestrator(
        Stores(lambda c: SqlJobStore(c, catalog), lambda c: SqlDispatchStore(c, 0), SqlSteeringStore, SqlSealStore)
    )
    with engine.connect() as connection:
        for flow in read_workflows([BUILT_IN]):
            catalog.publish(connection, flow)

        def batch(message: Any) -> None:
            unit = Unit(connection, NOW.timestamp(), "/walks", telemetry)
            item = Inbound(message, "stage.reports", 0, 0, 0, message.key.encode(), b"", ())
            orchestrator.on_batch(unit, [item])
            assert item.dead_letter is None and unit.outgoing

        batch(command)
        connection.commit()

        def path() -> None:
            batch(report)
            connection.rollback()

        return traced(path)


def upload_walk() -> Tracer:
    """One multipart upload into a session. The session service's answer comes at once."""
    with tempfile.TemporaryDirectory() as folder:
        loop = asyncio.new_event_loop()
        request = loop.run_until_complete(upload_request(Path(folder)))

        def path() -> None:
            status = loop.run_until_complete(request())
            assert status == 200, status

        try:
            return traced(path)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


def measure() -> dict[str, Any]:
    """All walks, through all of our modules and within the service alone."""
    walks = {
        "decide": (decide_walk(), "services.job_orchestrator."),
        "on_batch": (batch_walk(), "services.job_orchestrator."),
        "upload": (upload_walk(), "services.ingest."),
    }
    return {name: {"house": asdict(t.walk()), "service": asdict(t.walk(service))} for name, (t, service) in walks.items()}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walks")
    results.add_option(parser)
    wanted = parser.parse_args()
    found = measure()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    results.save(wanted.results, "walks", {}, found, lambda text: print(text, file=sys.stderr))


if __name__ == "__main__":
    main()
