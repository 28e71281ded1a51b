"""The previous release and this tree read each other's topics and stores, and a rolling upgrade works in both orders and back.

`releases/` holds the source of earlier releases, frozen by `tests/evolution/snapshot.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from cli.client import Client, CliError, Target
from cli.commands.submit import submit_files
from cli.local.plan import Plan
from cli.local.supervisor import Supervisor
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import ADMIN
from tests.chaos.test_kills import check_records
from tests.e2e.outside import read_from
from tests.eventually import eventually
from tests.evolution.snapshot import release_file

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
PREVIOUS = "0.3.0"
SERVICES = ["ingest", "session", "job_orchestrator", "stage_worker", "notifier"]
START = "import runpy, sys; sys.path.insert(0, {tree!r}); runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the previous release."""
    folder = tmp_path_factory.mktemp("release")
    path = release_file(PREVIOUS)
    assert path.exists(), f"make it: python -m tests.evolution.snapshot {PREVIOUS}"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


@dataclass
class Mixed(Plan):
    """A deployment in which the services named in `old` are those of an earlier release, whose source is in `tree`."""

    tree: Path = Path()
    old: set[str] = field(default_factory=set)

    def command(self, name: str) -> list[str]:
        """The command that starts this service now."""
        if name in self.old:
            return [sys.executable, "-c", START.format(tree=str(self.tree), module=f"services.{name}")]
        return [sys.executable, "-m", f"services.{name}"]

    def environment(self, name: str) -> dict[str, str]:
        """As ever. An orchestrator of the earlier release would try to create topics that its user may not see; a worker of it starts
        processes, which must find the modules of that release and not those of this folder."""
        earlier = {"STAGELINE_CREATE_TOPICS": "0", "PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1"}
        return super().environment(name) | (earlier if name in self.old else {})

    @property
    def access(self) -> KafkaAccess:
        """Connection of the broker's super user."""
        return self.credentials.access(ADMIN, self.bootstrap)

    def processes(self) -> dict[str, list[str]]:
        return {name: self.command(name) for name in super().processes()}


@asynccontextmanager
async def running(plan: Mixed) -> AsyncIterator[tuple[Supervisor, Client]]:
    supervisor = Supervisor(plan, lambda line: None)
    await supervisor.start()
    try:
        async with Client(Target(plan.url, plan.notifier_url, plan.key_file.read_text().strip())) as client:
            yield supervisor, client
    finally:
        await supervisor.stop()


def documents(folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for n in range(3):
        (folder / f"note-{n}.txt").write_text(f"Invoice No: N-{n}\nDate: 2026-01-02\nTotal due: EUR {n}.50\n")
    return sorted(folder.iterdir())


async def completed(client: Client, job: str) -> bool:
    found = await client.call("GET", f"/api/job/detail/{job}")
    assert found["stage"] not in ("failed", "invalid", "cancelled"), found["error_messages"]
    return bool(found["stage"] == "completed")


PAIRS = [
    {"job_orchestrator"}, {"stage_worker"}, {"session"}, {"ingest", "session"}, {"stage_worker", "notifier"},
    {"job_orchestrator", "session", "ingest", "notifier"},
]  # fmt: skip


@pytest.mark.parametrize(
    "old", [pytest.param(old, id="+".join(sorted(old)), marks=[pytest.mark.slow] if n else []) for n, old in enumerate(PAIRS)]
)
async def test_a_job_runs_through_both_releases(previous: Path, tmp_path: Path, old: set[str]) -> None:
    plan = Mixed(tmp_path / "data", port=0, kafka_port=0, tree=previous, old=old)
    async with running(plan) as (_, client):
        job = await submit_files(client, documents(tmp_path / "d"), {"workflow": "documents", "metadata": {"a": "b"}})
        await eventually(lambda: completed(client, job), 60)
        check_records(await read_from(plan.access, "job.events", "file.events"), job, 3)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("order", [SERVICES, SERVICES[::-1]], ids=["producers first", "consumers first"])
async def test_a_rolling_upgrade_under_load_and_back(previous: Path, tmp_path: Path, order: list[str]) -> None:
    plan = Mixed(tmp_path / "data", port=0, kafka_port=0, tree=previous, old=set(SERVICES))
    files = documents(tmp_path / "d")
    async with running(plan) as (supervisor, client):
        jobs: list[str] = []
        rolling = asyncio.Event()

        async def submit() -> None:
            while not rolling.is_set():
                jobs.append(await submit_files(client, files, {"workflow": "documents", "metadata": None}))

        submitting = asyncio.create_task(submit())
        for step in (*order, *order[:2]):  # all of them up, then the first two back
            plan.old ^= {step}
            child = supervisor.children[step]
            child.command, child.environment = plan.command(step), plan.environment(step)
            assert child.process is not None
            before, count = child.process, len(jobs)
            before.terminate()

            async def moved(child=child, before=before, count=count) -> bool:  # type: ignore[no-untyped-def]
                if submitting.done():
                    submitting.result()  # raises the reason
                return child.process is not before and child.process.returncode is None and len(jobs) >= count + 2

            await eventually(moved, 60)
        rolling.set()
        await submitting
        for job in jobs:
            await eventually(lambda job=job: completed(client, job), 60)  # type: ignore[misc]
        records = await read_from(plan.access, "job.events", "file.events")
        for job in jobs:
            check_records(records, job, 3)


async def replaced(supervisor: Supervisor, plan: Mixed, name: str) -> None:
    """Replace a service by that of the other release; returns when it is ready."""
    plan.old ^= {name}
    child = supervisor.children[name]
    child.command = plan.command(name)
    child.environment = plan.environment(name)
    before = child.process
    assert before is not None
    before.terminate()

    async def moved() -> bool:
        if child.process is before or child.process is None or child.process.returncode is not None:
            return False
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{plan.ports[name]}/health/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(moved, 90, 0.2)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_operators_verb_between_the_releases(previous: Path, tmp_path: Path) -> None:
    """Verbs of an old gateway are refused by a new orchestrator. Those of a new gateway wait for one."""
    extra = {"STAGELINE_DECISION_TIMEOUT_S": "3"}
    plan = Mixed(tmp_path / "data", port=0, kafka_port=0, tree=previous, old={"ingest"}, extra=extra)
    steer = ("PUT", "/v1/controls/action/noop")
    async with running(plan) as (supervisor, client):
        with pytest.raises(CliError, match=r"operator\.commands"):
            await client.call(*steer, json={"limit": 7})
        await replaced(supervisor, plan, "ingest")
        assert (await client.call(*steer, json={"limit": 8}))["limit"] == 8
        await replaced(supervisor, plan, "job_orchestrator")
        # Not by `call`, which repeats what was answered with 503.
        async with client.http.put(plan.url + steer[1], json={"limit": 9}) as answer:
            assert answer.status == 503 and "not decided yet" in await answer.text()
        await replaced(supervisor, plan, "job_orchestrator")

        async def decided() -> bool:
            answers = [json.loads(r.value) for r in await read_from(plan.access, "job.answers")]
            return [a["ok"] for a in answers if a.get("verb") == "control"] == [False, True, True]

        await eventually(decided, 60, 0.5)
