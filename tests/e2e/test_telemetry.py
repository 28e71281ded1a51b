"""What operators see: one tree per job by the current conventions, logs, health; `test_metrics.py` has the metrics."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from cli.client import Client
from cli.local.otlp_receiver import OtlpReceiver, roots
from tests.conftest import Pipeline
from tests.e2e.outside import read_all, submit
from tests.e2e.test_gateway import ended, session_with
from tests.eventually import eventually
from tests.webhook_receiver import Receiver

pytestmark = pytest.mark.kafka


async def test_the_trace_of_a_job_is_one_tree_with_the_current_names(
    client: Client, pipeline: Pipeline, otlp: OtlpReceiver
) -> None:
    async with Receiver() as receiver:
        made = await client.call("POST", "/v1/webhooks", notifier=True, json={"url": receiver.url, "events": ["job.finished"]})
        receiver.secret = made["secret"]
        session = await session_with(client, "letter-complaint.docx")
        job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
        await ended(client, job_id)

        async def complete() -> Any:
            spans = otlp.trace_of_job(job_id)
            return spans if len(roots(spans)) == 1 and any(s.name == "POST" for s in spans) else None

        spans = await eventually(complete, 30)
        await client.call("DELETE", f"/v1/webhooks/{made['id']}", notifier=True)
    (root,) = roots(spans)
    assert root.name == "POST /api/job/create" and root.kind == 2
    assert {s.service for s in spans} == {
        f"stageline-{n}" for n in ("ingest", "session", "job_orchestrator", "stage_worker", "notifier")
    }
    assert receiver.headers[0]["traceparent"].split("-")[1] == root.trace_id
    check_conventions([s for s in spans if "messaging.system" in s.attributes])
    check_conventions([s for s in otlp.spans if s.name.split()[0] in ("send", "commit")])


RETIRED = {
    "messaging.operation",
    "messaging.kafka.consumer.group",
    "messaging.kafka.destination.partition",
    "messaging.kafka.message.offset",
    "messaging.client_id",
}
KINDS = {"create": 4, "send": 3, "process": 5, "commit": 3}


def check_conventions(spans: list[Any]) -> None:
    assert spans
    for s in spans:
        a = s.attributes
        operation = s.name.split()[0]
        assert s.name == f"{operation} {a['messaging.destination.name']}" and a["messaging.operation.name"] == operation
        assert a["messaging.system"] == "kafka" and s.kind == KINDS[operation], s.name
        assert not RETIRED & set(a) and not any(k.startswith("messaging.destination_publish") for k in a)
        if operation == "process":
            assert a["messaging.operation.type"] == "process" and a["messaging.consumer.group.name"]
            assert isinstance(a["messaging.destination.partition.id"], str) and isinstance(a["messaging.kafka.offset"], int)
            assert len(s.links) == 1 and s.links[0][1] == s.parent_id, (
                "the span is linked to its creation context and a child of it"
            )
        if operation == "send":
            assert a["messaging.operation.type"] == "send" and a["messaging.batch.message_count"] >= 1
        if operation == "commit":
            assert a["messaging.operation.type"] == "settle"


async def test_every_service_is_ready(pipeline: Pipeline) -> None:
    async with aiohttp.ClientSession() as http:
        for name, port in pipeline.state["ports"].items():
            if not name.startswith("kafka"):
                async with http.get(f"http://127.0.0.1:{port}/health/ready") as answer:
                    assert answer.status == 200, await answer.text()
                async with http.get(f"http://127.0.0.1:{port}/health/live") as answer:
                    assert (await answer.json())["status"] == "ok"


async def test_logs_tell_the_job_and_its_trace(client: Client, pipeline: Pipeline) -> None:
    session = await session_with(client, "locked-invoice.pdf")
    job_id = (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"]
    await ended(client, job_id)
    lines = [json.loads(line) for line in (pipeline.data_dir / "logs" / "job_orchestrator.log").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("job.id") == job_id and line["message"] == "job ended badly"]
    assert line["stage"] == "invalid" and len(line["trace_id"]) == 32 and line["service"] == "job_orchestrator"


async def test_the_state_of_a_job_belongs_to_no_trace(pipeline: Pipeline) -> None:
    """A snapshot has several causes, so a span of its own would be a second root beside the job's tree."""
    job_id = await submit(pipeline, "noop-five")

    async def published() -> list[Any]:
        return [r for r in await read_all(pipeline, "job.state") if r.key == job_id.encode()]

    for record in await eventually(published, 30, 0.3):
        assert "traceparent" not in dict(record.headers)
