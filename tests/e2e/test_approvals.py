"""Approvals, from the list to the answer, through the gateway and the command line."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from cli.client import Client, CliError
from tests.conftest import Pipeline
from tests.e2e.outside import read_all
from tests.e2e.test_control import make, until_why, verb
from tests.e2e.test_gateway import ended

pytestmark = pytest.mark.kafka


async def test_an_approval_is_waited_for_and_given(client: Client, pipeline: Pipeline) -> None:
    job_id = await make(client, "test-approval")
    await until_why(client, job_id, "waiting_for_approval")
    assert (await client.call("GET", f"/v1/jobs/{job_id}"))["stage"] == "in_revision"
    with pytest.raises(CliError, match="no step of the job waits"):
        await verb(client, job_id, "poke", step="send")
    producer = await client.call("POST", "/v1/keys", json={"user_name": "pia", "role": "producer"})
    with pytest.raises(CliError, match="for operators"):
        headers = {"authorization": f"Bearer {producer['key']}"}
        await client.call("POST", f"/v1/jobs/{job_id}/poke", json={"step": "approve"}, headers=headers)
    listed = (await client.call("GET", "/v1/approvals"))["result"]
    [line] = [x for x in listed if x["job_id"] == job_id]
    assert line["step"] == "approve" and line["file_id"] is None and line["since"] < line["due_at"]
    command = partial(asyncio.to_thread, pipeline.command)
    assert job_id in (await command("approvals", "list")).stdout
    done = await command("approvals", "approve", job_id, "--message", "seen", "--data", '{"amount": 5}')
    assert done.returncode == 0 and "approve approved" in done.stdout, done
    assert (await ended(client, job_id))["stage"] == "completed"
    assert job_id not in (await command("approvals", "list")).stdout


@pytest.mark.parametrize(("code", "stage"), [("not_needed", "completed"), ("wrong", "failed")])
async def test_an_approval_is_refused(client: Client, pipeline: Pipeline, code: str, stage: str) -> None:
    job_id = await make(client, "test-approval")
    await until_why(client, job_id, "waiting_for_approval")
    done = await asyncio.to_thread(pipeline.command, "approvals", "refuse", job_id, "--code", code, "--message", "no")
    assert done.returncode == 0, done
    assert (await ended(client, job_id))["stage"] == stage
    tasks = [json.loads(r.value)["step"] for r in await read_all(pipeline, "stage.tasks.noop") if job_id.encode() in r.value]
    assert tasks == ([] if code == "not_needed" else ["undo"]), "a refusal without a rule runs the rescue"
