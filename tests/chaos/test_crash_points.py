"""Every service is killed at the same crash point, while jobs run. After the restart, each job has its effect once."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from tests.chaos.test_kills import check_topics
from tests.e2e.test_gateway import ended
from tests.pipelines import RestartablePipeline
from tests.webhook_receiver import Receiver

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
SERVICES = ("ingest", "session", "job_orchestrator", "notifier")
FILES = 12


@pytest.mark.timeout(150)
@pytest.mark.slow
@pytest.mark.parametrize("point", ["before_commit", "after_commit", "after_publish", "before_settle", "after_settle"])
async def test_death_at_a_boundary_leaves_one_effect(restartable: RestartablePipeline, tmp_path: Path, point: str) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    for n in range(FILES):
        (documents / f"note-{n}.txt").write_text(f"Invoice No: N-{n}\nTotal due: EUR {n}.50\nIBAN and VAT follow.\n")
    worker = "stage_worker.before_report:7" if point.startswith("before") else "stage_worker.after_publish:7"
    # One commit of offsets covers several batches, so there may be fewer than six; twelve uploads may reach the session service in two.
    times = dict.fromkeys(SERVICES, 1 if point == "after_settle" else 6) | {"session": 1 if point == "after_settle" else 2}
    planted = ",".join([f"{name}.{point}:{times[name]}" for name in SERVICES] + [worker])
    armed = tmp_path / "armed"
    await asyncio.to_thread(restartable.restart, STAGELINE_CRASH_AT=planted, STAGELINE_CRASH_ONCE=str(armed))
    armed.touch()
    async with Client(restartable.target()) as client, Receiver() as receiver:
        hook = {"url": receiver.url, "events": ["job.finished", "file.done"]}
        made = await client.call("POST", "/v1/webhooks", notifier=True, json=hook)
        receiver.secret = made["secret"]
        job_id = await submit_files(client, sorted(documents.iterdir()), {})
        job = await ended(client, job_id)
        assert job["stage"] == "completed" and Counter(f["status"] for f in job["files"]) == {"finished": FILES}
        await check_topics(restartable, job_id, FILES)
        await client.call("DELETE", f"/v1/webhooks/{made['id']}", notifier=True)
    died = {found[1] for line in restartable.said if (found := re.match(r"(\w+) ended with code 137", line))}
    assert died >= {"session", "job_orchestrator", "stage_worker", "ingest"}, "the planted crash happened"
