"""Events for consumers: webhooks, the resumable stream, and the topics."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from functools import partial
from typing import Any

import pytest

from cli.client import Client
from contracts import JOB_EVENTS, MODELS, CancelJob, StageReport, TaskStatus, from_record, to_record
from shared import clock
from shared.kafka.clients import make_producer
from tests.conftest import Pipeline
from tests.e2e.outside import OWNER, read_all, sse, submit
from tests.e2e.test_gateway import ended, session_with
from tests.eventually import eventually
from tests.webhook_receiver import Receiver

pytestmark = pytest.mark.kafka


async def test_webhooks_are_signed_retried_and_logged(client: Client, pipeline: Pipeline) -> None:
    async with Receiver(lambda event_id, attempt: 500 if attempt < 3 else 204) as receiver:
        made = await client.call("POST", "/v1/webhooks", notifier=True, json={"url": receiver.url, "events": ["job.finished"]})
        receiver.secret = made["secret"]
        job_id = await submit(pipeline, "noop-five")

        async def delivered() -> bool:
            log = await client.call("GET", f"/v1/webhooks/{made['id']}/log", notifier=True)
            events = {e for e, _, body in receiver.received if body["event"]["job_id"] == job_id}
            return any(a["outcome"] == "delivered" and a["event_id"] in events for a in log["result"])

        await eventually(delivered)
        assert receiver.bad_signatures == 0
        # A job of another test may have ended just before.
        mine = [r for r in receiver.received if r[2]["event"]["job_id"] == job_id]
        assert [attempt for _, attempt, _ in mine] == [1, 2, 3]
        (event_id,) = {event_id for event_id, _, _ in mine}
        log = (await client.call("GET", f"/v1/webhooks/{made['id']}/log", notifier=True))["result"]
        assert [(a["attempt"], a["outcome"], a["status_code"]) for a in log if a["event_id"] == event_id] == [
            (3, "delivered", 204),
            (2, "retrying", 500),
            (1, "retrying", 500),
        ]
        await client.call("DELETE", f"/v1/webhooks/{made['id']}", notifier=True)
    attempts = [json.loads(r.value) for r in await read_all(pipeline, "delivery.events")]
    assert len([a for a in attempts if a["endpoint_id"] == made["id"] and a["event_id"] == event_id]) == 3


async def test_a_receiver_that_is_gone_is_disabled_and_sent_what_it_missed(client: Client, pipeline: Pipeline) -> None:
    gone = True
    async with Receiver(lambda event_id, attempt: 410 if gone else 204) as receiver:
        made = await client.call(
            "POST", "/v1/webhooks", notifier=True, json={"url": receiver.url, "events": ["job.start", "job.finished"]}
        )
        receiver.secret = made["secret"]
        await submit(pipeline, "noop-five")

        async def endpoint() -> dict[str, Any]:
            found = (await client.call("GET", "/v1/webhooks", notifier=True))["result"]
            return next(e for e in found if e["id"] == made["id"])

        async def disabled() -> bool:
            return (await endpoint())["state"] == "disabled"

        await eventually(disabled)
        assert "410" in (await endpoint())["disabled_reason"]
        await submit(pipeline, "noop-five")

        async def held() -> bool:
            log = await client.call("GET", f"/v1/webhooks/{made['id']}/log", notifier=True)
            return int(log["deliveries"].get("suppressed", 0)) >= 2

        await eventually(held)
        gone = False
        before = len(receiver.received)
        answer = await client.call("POST", f"/v1/webhooks/{made['id']}/enable", notifier=True)

        async def arrived() -> bool:
            return len(receiver.received) >= before + answer["due"]

        await eventually(arrived)
        await client.call("DELETE", f"/v1/webhooks/{made['id']}", notifier=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "https://10.0.0.1/",
        "https://[::ffff:169.254.169.254]/",
        "ftp://example.com",
        "https://u:p@example.com/",
        "https://example.com:22/",
    ],
)
async def test_endpoints_at_internal_addresses_are_refused(client: Client, url: str) -> None:
    async with client.http.post(client.target.notifier_url + "/v1/webhooks", json={"url": url}) as answer:
        assert answer.status == 400 and (await answer.json())["detail"].startswith("url")


async def test_the_stream_resumes_exactly_where_it_stopped(client: Client, pipeline: Pipeline) -> None:
    job_id = await submit(pipeline, "noop-five")
    await ended(client, job_id)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(20):
        got = 0
        query = {"job_id": job_id, "types": "job.*", "start": "beginning"}
        async for found, name, data in sse(client, query, cursor):
            cursor = found or cursor
            if name not in ("hello", "resync"):
                seen.append(data["event_id"])
                got += 1
                if name == "job.finished" or got == 2:
                    break
        if name == "job.finished":
            break
    assert len(seen) == len(set(seen)) == 9, "no event is missing or repeated over several connections"


async def test_a_cursor_that_is_not_ours_is_refused(client: Client) -> None:
    async with client.http.get(client.target.notifier_url + "/events/stream", headers={"last-event-id": "x'; drop"}) as answer:
        assert answer.status == 400


async def test_the_topics_hold_dense_sequences_with_previous_stages(client: Client, pipeline: Pipeline) -> None:
    job_id = await submit(pipeline, "noop-five")
    await ended(client, job_id)
    types = frozenset(m.TYPE for m in JOB_EVENTS)
    events = [from_record(r.value, r.headers, types) for r in await read_all(pipeline, "job.events") if r.key == job_id.encode()]
    inner = [e.event for e in events]  # type: ignore[attr-defined]
    assert [e.sequence for e in inner] == list(range(1, 10))
    updates = [(e.previous_stage, e.stage) for e in inner if e.NAME == "job_stage_update_event"]
    assert updates == [
        ("started", "downloading"),
        ("downloading", "in_progress"),
        ("in_progress", "in_revision"),
        ("in_revision", "syncing"),
        ("syncing", "uploading"),
        ("uploading", "completed"),
    ]


async def test_retries_are_published_until_they_are_used_up(client: Client, pipeline: Pipeline) -> None:
    job = await ended(client, await submit(pipeline, "always-err"))
    assert job["stage"] == "failed" and job["exceeded_retries"] is True and job["retries"] == 2
    history = (await client.call("GET", f"/v1/jobs/{job['id']}/history"))["result"]
    names = [e["event"]["event_name"] for e in history]
    assert names[-5:] == [
        "job_retry_event",
        "job_retry_event",
        "job_exceeded_retries_event",
        "job_stage_update_event",
        "job_failed_event",
    ]


async def test_cancel_reaches_the_worker(client: Client, pipeline: Pipeline) -> None:
    job_id = await submit(pipeline, "sleeper")

    async def running() -> bool:
        async with client.http.get(f"{client.target.url}/v1/jobs/{job_id}") as answer:
            return answer.status == 200 and (await answer.json())["stage"] == "in_progress"

    await eventually(running)
    assert (await client.call("GET", f"/v1/jobs/{job_id}"))["waiting"]["code"] in ("queued", "running")
    await client.call("POST", f"/api/job/cancel/{job_id}", json={"reason": "changed my mind"})
    job = await ended(client, job_id)
    assert job["stage"] == "cancelled" and "changed my mind" in job["error_messages"][-1]

    async def free() -> bool:
        # The cancelled task frees its slot long before its minute is over, so the offset below it is committed.
        other = await submit(pipeline, "noop-five")
        return bool((await ended(client, other))["stage"] == "completed")

    await eventually(free, 20)
    async with client.http.post(client.target.url + f"/api/job/cancel/{job_id}") as answer:
        assert answer.status == 409


async def test_a_command_for_an_unknown_job_is_answered_and_a_report_is_dead_lettered(client: Client, pipeline: Pipeline) -> None:
    job_id = clock.new_root()
    command = CancelJob(command_id=clock.new_root(), job_id=job_id, owner=OWNER, issued_at=clock.now())
    report = StageReport(
        report_id=clock.new_root(), job_id=job_id, tenant_id=OWNER.tenant_id, step="s", action="noop", attempt=1, lease="l",
        reported_at=clock.now(), status=TaskStatus.OK,
    )  # fmt: skip
    producer = await make_producer(pipeline.access, "test")
    for topic, message in (("job.commands", command), ("stage.reports", report)):
        record = to_record(message, "/test")
        await producer.send_and_wait(topic, record.value, record.key, headers=list(record.headers))
    await producer.stop()

    async def found(topic: str) -> Any:
        return [r for r in await read_all(pipeline, topic) if r.key == job_id.encode()]

    (answer,) = await eventually(lambda: found("job.answers"))
    body = json.loads(answer.value)
    assert (body["command_id"], body["ok"], body["code"], body["verb"]) == (command.command_id, False, "unknown_job", "cancel")
    (letter,) = await eventually(lambda: found("stage.reports.job_orchestrator.dlq"))
    headers = dict(letter.headers)
    assert headers["dlq-code"] == b"unknown_job" and letter.value == record.value
    assert headers["ce_id"] == report.report_id.encode() and headers["dlq-original-topic"] == b"stage.reports"
    await _a_letter_is_sent_again_once(client, pipeline, job_id)


async def _a_letter_is_sent_again_once(client: Client, pipeline: Pipeline, job_id: str) -> None:
    """By an operator. Its job is still unknown, so the record comes back as another letter."""
    command = partial(asyncio.to_thread, pipeline.command)

    async def letters() -> Any:
        return (await client.call("GET", "/v1/letters", params={"job_id": job_id, "state": "all"}))["result"]

    (letter,) = await letters()
    assert (letter["code"], letter["source"], letter["state"]) == ("unknown_job", "stage.reports", "open")
    listed = await command("letters", "list", "--job", job_id)
    assert letter["id"] in listed.stdout and "unknown_job" in listed.stdout, listed
    shown = await command("letters", "show", letter["id"])
    assert "dlq-original-topic" in shown.stdout and '"action": "noop"' in shown.stdout, shown
    done = await command("letters", "redrive", letter["id"], "--reason", "tried")
    assert done.returncode == 0 and "redriven" in done.stdout, done

    async def came_back() -> Any:
        found = await letters()
        return found if len(found) == 2 else None

    newer, older = await eventually(came_back)
    assert (older["id"], older["state"], older["act"]["reason"]) == (letter["id"], "redriven", "tried")
    assert "left alone" in (await command("letters", "redrive", letter["id"])).stdout
    done = await command("letters", "discard", "--job", job_id, "--json")
    assert json.loads(done.stdout) == [{"id": newer["id"], "state": "discarded"}], done
    assert "no dead letters" in (await command("letters", "list", "--job", job_id)).stdout
    audit = await command("audit", "--limit", "20")
    assert "letter.redriven" in audit.stdout and "letter.discarded" in audit.stdout


async def test_every_header_of_every_event_is_cloudevents(client: Client, pipeline: Pipeline) -> None:
    session = await session_with(client, "invoice-globex-117.pdf", "locked-invoice.pdf")
    await ended(client, (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"])
    per_type: dict[str, int] = defaultdict(int)
    for record in await read_all(pipeline, "job.events", "file.events", "session.events"):
        headers = dict(record.headers)
        assert headers["ce_specversion"] == b"1.0" and headers["content-type"] == b"application/json"
        assert headers["ce_source"].startswith(b"/stageline/") and headers["ce_subject"] == record.key
        from_record(record.value, record.headers, frozenset(MODELS))
        per_type[headers["ce_type"].decode()] += 1
    assert len(per_type) >= 15, dict(per_type)
