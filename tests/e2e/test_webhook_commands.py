"""Webhooks by the command line on a running pipeline: an event is sent again, and the audit names the user, the act and the reason."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cli.client import Client
from tests.conftest import Pipeline
from tests.e2e.outside import submit
from tests.eventually import eventually
from tests.webhook_receiver import Receiver

pytestmark = pytest.mark.kafka


async def test_an_event_that_a_receiver_lost_is_sent_again(client: Client, pipeline: Pipeline) -> None:
    async def ask(*arguments: str) -> Any:
        done = await asyncio.to_thread(pipeline.command, "webhooks", *arguments, "--json")
        assert done.returncode == 0, (arguments, done.stderr)
        return json.loads(done.stdout or "null")

    async with Receiver() as receiver:
        made = await ask("add", receiver.url, "--event", "job.finished")
        endpoint, receiver.secret = made["id"], made["secret"]
        job_id = await submit(pipeline, "noop-five")

        def of_job() -> list[tuple[str, int]]:
            mine = [r for r in receiver.received if r[2].get("event", {}).get("job_id") == job_id]
            assert {body["type"] for _, _, body in mine} <= {"job.finished"}
            return [(event_id, attempt) for event_id, attempt, _ in mine]

        async def arrived(times: int) -> bool:
            return len(of_job()) == times

        async def logged() -> bool:
            return [a["outcome"] for a in (await ask("log", endpoint, "--job", job_id))["result"]] == ["delivered"]

        await eventually(lambda: arrived(1))
        await eventually(logged, every_s=0.3)
        receiver.secret = (await ask("rotate", endpoint))["secret"]
        assert (await ask("replay", endpoint, "--job", job_id, "--reason", "lost in a crash"))["due"] == 1
        await eventually(lambda: arrived(2))
        (first, _), (second, attempt) = of_job()
        assert first == second and attempt == 2 and receiver.bad_signatures == 0
        await asyncio.to_thread(pipeline.command, "webhooks", "delete", endpoint)

    async def audited() -> list[dict[str, Any]]:
        lines = (await client.call("GET", "/v1/audit?limit=500"))["result"]
        found = [line for line in lines if line["subject"] == endpoint]
        return found if len(found) == 4 else []

    lines = await eventually(audited)
    by_verb = {line["verb"]: line for line in lines}
    assert set(by_verb) == {"webhook.add", "webhook.rotate", "webhook.replay", "webhook.delete"}
    assert by_verb["webhook.replay"]["reason"] == "lost in a crash" and all(line["by"] and line["ok"] for line in lines)
