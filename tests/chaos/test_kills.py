"""SIGKILL of any process while 200 files are processed: every job ends correctly, and no event is missing or doubled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from contracts import MODELS, from_record
from tests.conftest import Pipeline
from tests.e2e.outside import read_all
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow]
FILES = 200
PROCESSES = ["ingest", "session", "job_orchestrator", "stage_worker", "notifier", "kafka"]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for n in range(FILES):
        (folder / f"note-{n:03}.txt").write_text(
            f"Invoice No: N-{n}\nDate: 2026-01-02\nTotal due: EUR {n}.50\nIBAN and VAT follow.\n"
        )
    return folder


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = Pipeline(tmp_path_factory.mktemp("chaos"))
    running.start()
    yield running
    running.stop()


async def files_finished(client: Client, job_ids: set[str]) -> int:
    jobs = (await client.call("GET", "/api/job/all?pageSize=100"))["result"]
    new = [j["id"] for j in jobs if j["id"] not in job_ids]
    if not new:
        return 0
    job = await client.call("GET", f"/api/job/detail/{new[0]}")
    return sum(f["status"] == "finished" for f in job["files"])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PROCESSES)
async def test_sigkill_during_submit(victim: Pipeline, documents: Path, name: str) -> None:
    async with Client(victim.target()) as client:
        before = {j["id"] for j in (await client.call("GET", "/api/job/all?pageSize=100"))["result"]}
        command = [sys.executable, "-m", "cli", "submit", str(documents), "--watch", "--json", "--data-dir", str(victim.data_dir)]
        said, complained = victim.data_dir / f"{name}.out", victim.data_dir / f"{name}.err"
        with said.open("w") as out, complained.open("w") as err:
            submit = subprocess.Popen(command, stdout=out, stderr=err)
        killed: set[int] = set()

        async def under_way() -> bool:
            assert submit.poll() is None, complained.read_text()
            return await files_finished(client, before) >= 10

        await eventually(under_way, 150)
        for _ in range(2):
            # Twice: during the work, and right after the restart.
            pid = victim.state["pids"][name]
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)

            async def restarted() -> bool:
                return victim.state["pids"][name] not in killed

            await eventually(restarted, 30)

        async def done() -> bool:
            return submit.poll() is not None

        await eventually(done, 120)
        assert submit.returncode == 0, complained.read_text()
        job = json.loads(said.read_text())
        assert job["stage"] == "completed" and len(job["files"]) == FILES
        assert Counter(f["status"] for f in job["files"]) == {"finished": FILES}
    await check_topics(victim, job["id"])


async def check_topics(pipeline: Pipeline, job_id: str, files: int = FILES) -> None:
    """A reader that de-duplicates by id sees every event once, with dense sequences, and one end."""
    check_records(await read_all(pipeline, "job.events", "file.events"), job_id, files)


def check_records(everything: list[Any], job_id: str, files: int) -> None:
    """As `check_topics`, over records of any reader."""
    allowed = frozenset(MODELS)
    records = [r for r in everything if r.key == job_id.encode()]
    seen: dict[str, bytes] = {}
    sequences: list[int] = []
    per_file: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        event: Any = from_record(record.value, record.headers, allowed)
        if event.event_id in seen:
            assert seen[event.event_id] == record.value, "a repeat with the same id has the same content"
            continue
        seen[event.event_id] = record.value
        if event.event.KIND == "job_event":
            sequences.append(event.event.sequence)
        else:
            key = getattr(event.event, "file_id", None) or event.event.file_log_id
            per_file[key][event.event.NAME] += 1
    assert sequences == list(range(1, len(sequences) + 1)), "dense and in order"
    assert len(per_file) == files
    for counts in per_file.values():
        assert counts["file_add_to_job_event"] == counts["file_done_event"] == counts["file_category_create_event"] == 1
        assert counts["file_extracted_data_create_event"] == 1
    ends = [v for v in seen.values() if b'"job_finished_event"' in v or b'"job_failed_event"' in v]
    assert len(ends) == 1


@pytest.mark.timeout(120)
async def test_a_request_that_waits_for_a_decision_is_answered_when_the_gateway_stops(victim: Pipeline) -> None:
    """A gateway that stops while the session service is down answers an open request with 503, in the dialect's shape."""
    async with Client(victim.target()) as client:
        # The broker was killed just before. A gateway that has not joined its group again would stop in another way.
        await eventually(lambda: is_ready(client), 60)
    session, gateway = victim.state["pids"]["session"], victim.state["pids"]["ingest"]
    os.kill(session, signal.SIGSTOP)
    try:
        async with Client(victim.target()) as client:
            before = await commands(victim)
            asking = asyncio.create_task(client.http.post(f"{client.target.url}/api/deferred/create"))

            async def written() -> bool:
                return len(await commands(victim) - before) == 1

            await eventually(written, 20)
            os.kill(gateway, signal.SIGTERM)
            async with await asking as answer:
                body = await answer.json()
    finally:
        os.kill(session, signal.SIGCONT)
    assert answer.status == 503 and answer.headers["retry-after"] == "5"
    assert body["error"] == "Service Unavailable" and "is being stopped" in body["message"]


async def is_ready(client: Client) -> bool:
    async with client.http.get(f"{client.target.url}/health/ready") as answer:
        return answer.status == 200


async def commands(pipeline: Pipeline) -> set[str]:
    """Ids of all that the session service was ever told."""
    return {json.loads(r.value)["command_id"] for r in await read_all(pipeline, "session.commands")}
