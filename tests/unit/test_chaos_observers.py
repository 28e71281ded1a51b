"""What a chaos run reads from outside: logs, records, the stream and webhooks are taken as they are."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from contracts import JobErased, ReportRefused, StageReport, to_record
from tests.chaos.harness.__main__ import arguments, plan_of, written
from tests.chaos.harness.door import Door
from tests.chaos.harness.evidence import Violation
from tests.chaos.harness.hostile import hostile_records
from tests.chaos.harness.observers import StreamObserver, fact_of, log_lines, note_result
from tests.chaos.harness.plan import make_plan
from tests.chaos.harness.receiver import Receiver
from tests.chaos.harness.system import System
from tests.contracts.examples import example
from tests.unit.test_kit import stage_update


def record(topic: str, key: bytes | None, value: bytes | None, headers: Any) -> Any:
    return SimpleNamespace(topic=topic, key=key, value=value, headers=headers, timestamp=5000)


def test_logs_give_warnings_and_each_traceback_once(tmp_path: Path) -> None:
    def line(level: str, **more: str) -> str:
        return json.dumps({"time": "2026-11-30T08:00:01.500Z", "level": level, "logger": "x", "message": "m", **more})

    plain = "Traceback (most recent call last):\n  File 'a', line 1\nKeyError: 'event'"
    path = tmp_path / "session-2.log"
    path.write_text(
        "\n".join([line("INFO"), line("ERROR"), "a plain word", plain, line("INFO", exception="Traceback\nValueError: y")])
    )
    found = log_lines(path)
    assert [(f.process, f.level, f.message, bool(f.exception)) for f in found] == [
        ("session-2", "ERROR", "m", False), ("session-2", "ERROR", "KeyError: 'event'", True), ("session-2", "INFO", "m", True),
    ]  # fmt: skip
    assert {f.at for f in found} == {1796025601.5} and found[1].exception.strip() == plain


def test_results_of_refused_reports_are_known() -> None:
    content = "5f" + 62 * "0"
    report = example(StageReport).model_copy(update={"result": {"result_blob": f"default/5f/{content}"}})
    refusal = example(ReportRefused).model_copy(update={"report_id": report.report_id})
    refused, contents = set[str](), dict[str, set[str]]()
    for message in (report, refusal):
        made = to_record(message, "/t")
        note_result(record("stage.reports", made.key, made.value, made.headers), refused, contents)
    note_result(record("stage.reports", b"k", b"{", []), refused, contents)
    assert refused == {report.report_id} and contents == {report.report_id: {content}}


def test_records_become_facts_and_hostile_ones_do_not() -> None:
    made = to_record(stage_update("j", 3), "/t")
    fact = fact_of(record("job.events", made.key, made.value, made.headers))
    assert fact is not None and (fact.job_id, fact.sequence, fact.name) == ("j", 3, "job_stage_update_event")
    erased = example(JobErased)
    made = to_record(erased, "/t")
    fact = fact_of(record("job.erasures", made.key, made.value, made.headers))
    assert fact is not None and fact.event_id == erased.message_id and fact.job_id == erased.job_id
    tombstone = fact_of(record("job.state", b"j", None, []))
    assert tombstone is not None and tombstone.inner is None and tombstone.job_id == "j"
    for topic, key, value, headers in hostile_records(random.Random(3)):
        if topic in ("job.events", "file.events"):
            assert fact_of(record(topic, key, value, headers)) is None


def test_the_stream_keeps_events_with_their_cursors() -> None:
    stream = StreamObserver(cast(Door, None))
    assert stream._take({"event": "hello", "id": "j0:1", "data": "{}"}) == 0 == stream._take({"event": "ping"})
    assert stream._take({"event": "job.start", "id": "j0:2", "data": '{"event_id": "e"}'}) == 1
    assert [(s.cursor, s.event_id) for s in stream.shown] == [("j0:2", "e")] and stream._cursor == "j0:2"


@pytest.mark.parametrize(
    ("mood", "steady", "moody"), [("well", 204, 204), ("500", 204, 500), ("410", 204, 410), ("429", 204, 429)]
)
async def test_a_receiver_answers_by_its_mood(mood: str, steady: int, moody: int) -> None:
    async with Receiver() as receiver, aiohttp.ClientSession() as http:
        receiver.set_mood(mood)
        for endpoint, expected in (("steady", steady), ("moody", moody)):
            headers = {"webhook-id": "e", "stageline-attempt": "2"}
            body = {"event_id": "e", "event": {"job_id": "j"}}
            async with http.post(f"{receiver.base}/hook/{endpoint}", json=body, headers=headers) as answer:
                assert answer.status == expected and ("retry-after" in answer.headers) == (expected == 429)
        assert [(a.endpoint, a.job_id, a.number, a.status) for a in receiver.attempts] == [
            ("steady", "j", 2, steady), ("moody", "j", 2, moody),
        ]  # fmt: skip
        assert all(a.ended >= a.began for a in receiver.attempts)


def test_the_command_line_makes_the_plan() -> None:
    plan = plan_of(arguments(["--seed", "9", "--minutes", "2", "--store", "postgres"]))
    assert plan == make_plan(9, plan.parameters) and plan.parameters.replicas == 2 and "notifier-2" in plan.parameters.processes
    for wrong in (["--replicas", "2"], ["--faults", "rain"]):
        with pytest.raises(SystemExit):
            plan_of(arguments(wrong))


def test_a_violation_is_data() -> None:
    assert written(Violation("one end", "j", "a", "b", count=1)) == {
        "rule": "one end",
        "job_id": "j",
        "expected": "a",
        "seen": "b",
    }


async def test_a_request_is_repeated_until_it_is_answered_and_server_errors_are_kept() -> None:
    answers = iter([503, 429, 500, 409, 404])
    keys: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        keys.append(request.headers["idempotency-key"])
        return web.json_response({"n": len(keys)}, status=next(answers), headers={"retry-after": "0"})

    app = web.Application()
    app.router.add_post("/x", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        system = cast(System, SimpleNamespace(key="k", urls=lambda service: [url]))
        async with Door(system) as door:
            assert await door.call("POST", "/x", key="same") == (500, {"n": 3})
            assert await door.call("POST", "/x", key="same", expected=(409,)) == (409, {"n": 4})
            assert await door.call("POST", "/x", key="same") == (404, {"n": 5})
    assert set(keys) == {"same"} and [a.status for a in door.wrong] == [500, 404]
    assert door.statuses == {503: 1, 429: 1, 500: 1, 409: 1, 404: 1}
