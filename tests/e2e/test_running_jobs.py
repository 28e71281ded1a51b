"""Unfinished jobs against a new version of their workflow."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import yaml

from cli.client import Client
from tests.conftest import Pipeline
from tests.e2e.test_control import make, until_why

pytestmark = pytest.mark.kafka


<<<<<<< HEAD:tests/e2e/test_history.py
async def test_the_topics_and_the_stores_agree(client: Client, own_pipeline: Pipeline) -> None:
    own_pipeline.start()
    async with Client(own_pipeline.target()) as mine:
        files = [SAMPLES / "invoice-globex-117.pdf", SAMPLES / "locked-invoice.pdf"]
        done = await submit_files(mine, files, {"workflow": "documents"})
        await ended(mine, done)
        for _ in range(5):
            await ended(mine, await make(mine, "noop-five"))
    found = own_pipeline.command("verify", "--json")
    report = json.loads(found.stdout)
    assert found.returncode == 0 and report["jobs"] == 6 and report["differences"] == [], found.stdout + found.stderr
    with sqlite3.connect(own_pipeline.data_dir / "ingest.db") as store:
        store.execute("UPDATE job_view SET body = json_set(body, '$.stage', 'failed') WHERE id = ?", [done])
    found = own_pipeline.command("verify")
    assert found.returncode == 1 and f"{done}: the read model say stage is 'failed', the store 'completed'" in found.stdout


async def test_a_new_version_is_checked_against_the_running_jobs(client: Client, pipeline: Pipeline, tmp_path: Path) -> None:
=======
async def test_a_new_version_is_tried_on_the_jobs_that_run(client: Client, pipeline: Pipeline, tmp_path: Path) -> None:
>>>>>>> main:tests/e2e/test_running_jobs.py
    name = f"letters-{uuid.uuid4().hex[:8]}"
    steps = [
        {"name": "one", "action": "noop", "scope": "job"},
        {"name": "ask", "wait": {"kind": "approval"}, "scope": "job", "stage": "in_revision"},
    ]
    first = {"name": name, "version": 1, "steps": steps}
    path = tmp_path / "w.yaml"
    path.write_text(yaml.safe_dump(first))
    assert pipeline.command("workflows", "publish", str(path)).returncode == 0
    waits = await make(client, name)
    await until_why(client, waits, "waiting_for_approval")
    same = {**first, "version": 2, "steps": [*steps, {"name": "more", "action": "noop", "scope": "job"}]}
    path.write_text(yaml.safe_dump(same))
    found = pipeline.command("workflows", "check-running", str(path))
    assert found.returncode == 0 and "1 unfinished jobs, 0 would be affected" in found.stdout, found.stdout + found.stderr
    other = {**first, "version": 2, "steps": [steps[0]]}
    path.write_text(yaml.safe_dump(other))
    found = pipeline.command("workflows", "check-running", str(path))
    assert found.returncode == 1 and f"{waits} ({name}@1): its stage would be completed" in found.stdout, found.stdout
    renamed = {**first, "version": 2, "steps": [{**steps[0], "name": "uno"}, steps[1]]}
    path.write_text(yaml.safe_dump(renamed))
    found = pipeline.command("workflows", "check-running", str(path))
    assert found.returncode == 1 and "would be at uno, not at ask" in found.stdout, found.stdout
    await client.call("POST", f"/v1/jobs/{waits}/cancel")
