"""A workflow with conditions, through the real services: only the steps whose conditions hold get tasks."""

from __future__ import annotations

import json

import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.outside import read_all
from tests.e2e.test_gateway import ended

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("run", ["yes", "no"])
async def test_steps_run_where_their_conditions_hold(pipeline: Pipeline, client: Client, run: str) -> None:
    files = [SAMPLES / "contract-nda.pdf", SAMPLES / "email-order-4471.eml"]
    job_id = await submit_files(client, files, {"workflow": "test-conditions", "metadata": {"run": run}})
    job = await ended(client, job_id)
    assert job["stage"] == "completed", job["error_messages"]
    names = {f["id"]: f["file_name"] for f in job["files"]}
    tasks = [json.loads(r.value) for r in await read_all(pipeline, "stage.tasks.noop")]
    ran = {(t["step"], names.get(t.get("file_id"))) for t in tasks if t["job_id"] == job_id}
    assert ran == {("only-pdf", "contract-nda.pdf"), *([("many", None)] if run == "yes" else [])}
