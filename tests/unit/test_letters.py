"""Dead letters: what is shown of them, which filters they fit, what is sent again, and that nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from contracts import StageReport, to_record
from contracts.topics import STAGE_REPORTS_TOPIC, dead_letter_topic
from services.ingest.adapters.letter_box import NotPossible
from services.ingest.core.letters import Headers, Raw, Wanted, edited, letter_of, place_of, sendable, summary, whole_letter
from shared import clock
from shared.processing.processor import dead_letter
from tests.contracts.examples import OTHERS
from tests.gateway_app import InProcess, gateway_app
from tests.unit.fake_relay import record

TOPIC = dead_letter_topic(STAGE_REPORTS_TOPIC.name, "job_orchestrator")
REPORT = next(m for m in OTHERS if isinstance(m, StageReport))


def raw(offset: int = 7, code: str = "unknown_job", value: bytes | None = None, age_s: float = 60.0) -> Raw:
    """A dead letter as the orchestrator writes it."""
    sent = to_record(REPORT, "/t")
    source = record(REPORT)
    source.topic, source.headers, source.key = STAGE_REPORTS_TOPIC.name, sent.headers, sent.key
    source.value = sent.value if value is None else value
    made = dead_letter(source, "job_orchestrator", "job_orchestrator", code, "there is no such job", clock.unix() - age_s)
    return Raw(made.topic, 0, offset, clock.unix(), made.key, made.value, made.headers)


def test_a_letter_says_where_it_came_from_why_and_which_job_it_names() -> None:
    letter = letter_of(raw(), None, clock.unix())
    assert (letter["id"], letter["topic"], letter["source"]) == (f"{TOPIC}:0:7", TOPIC, "stage.reports")
    assert (letter["group"], letter["code"], letter["reason"]) == ("job_orchestrator", "unknown_job", "there is no such job")
    assert letter["job_id"] == REPORT.job_id and letter["type"] == StageReport.TYPE and 59 < letter["age_s"] < 62
    assert letter["state"] == "open" and place_of(letter["id"]) == (TOPIC, 0, 7)
    broken = letter_of(raw(value=b"\xff{"), None, clock.unix())
    assert broken["job_id"] == REPORT.job_id, "by the key, where the body cannot be read"


@pytest.mark.parametrize(
    "text", ["", "job.events:0:1", f"{TOPIC}", f"{TOPIC}:0", f"{TOPIC}:x:1", f"{TOPIC}:0:-1", f"{TOPIC}:0:{'9' * 40}"]
)
def test_what_is_no_id_of_a_letter(text: str) -> None:
    assert place_of(text) is None


def test_a_letter_is_shown_with_headers_and_body_without_secrets() -> None:
    shown = whole_letter(raw(value=b'{"job_id": "j", "password": "x"}'), None, clock.unix())
    assert shown["body"] == {"job_id": "j", "password": "[hidden]"} and shown["job_id"] == "j"
    task = whole_letter(raw(value=b'{"objects_url": "https://g/t/secret", "step": "s"}'), None, clock.unix())
    assert task["body"] == {"objects_url": "[hidden]", "step": "s"}, "it opens the tenant's objects without a key"
    assert {"name": "dlq-code", "value": "unknown_job"} in shown["headers"]
    assert whole_letter(raw(value=b"\xff"), None, clock.unix())["body_base64"] == "/w=="


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(), True), (Wanted(topic=TOPIC), True), (Wanted(topic="stage.reports"), True), (Wanted(topic="stage"), False),
        (Wanted(code="unknown_job"), True), (Wanted(code="other"), False), (Wanted(job_id=REPORT.job_id), True), (Wanted(group="x"), False),
        (Wanted(older_than_s=30), True), (Wanted(older_than_s=90), False), (Wanted(newer_than_s=30), False), (Wanted(state="redriven"), False),
        (Wanted(state=None), True),
    ],
)  # fmt: skip
def test_filters(wanted: Wanted, fits: bool) -> None:
    assert wanted.fits(letter_of(raw(), None, clock.unix())) is fits
    assert not fits or wanted.may_be_in(TOPIC)


def test_the_summary_counts_by_topic_and_reason() -> None:
    lines = summary([letter_of(raw(n, "a" if n else "b", age_s=n + 1.0), None, clock.unix()) for n in range(3)])
    assert [(line["code"], line["count"]) for line in lines] == [("a", 2), ("b", 1)]
    assert lines[0]["oldest"] < lines[0]["newest"]


def test_a_copy_has_the_headers_of_the_original_record() -> None:
    assert sendable(raw().headers) == to_record(REPORT, "/t").headers


def test_an_edited_copy_must_be_readable() -> None:
    value, headers = edited(raw(), {"job_id": "other"}, None, {"x": "1"})
    assert json.loads(value)["job_id"] == "other" and ("x", b"1") in headers
    with pytest.raises(ValueError, match="could not be read either"):
        edited(raw(), {"job_id": None}, None, {})
    with pytest.raises(ValueError, match="no JSON"):
        edited(raw(value=b"{"), {"job_id": "j"}, None, {})
    whole = to_record(REPORT, "/t").value.decode()
    assert edited(raw(value=b"{"), None, whole, {})[0] == whole.encode()
    with pytest.raises(ValueError, match="could not be read either"):
        edited(raw(), None, None, {"ce_type": None})


class Box:
    """Letters in memory. Notes what is sent."""

    def __init__(self, letters: list[Raw]) -> None:
        self.letters = letters
        self.sent: list[tuple[str | None, bytes, Headers]] = []
        self.fault: Exception | None = None

    async def scan(self, in_topic: Callable[[str], bool], newest: int | None) -> AsyncIterator[Raw]:
        for one in self.letters:
            if in_topic(one.topic):
                yield one

    async def letter(self, topic: str, partition: int, offset: int) -> Raw | None:
        return next((one for one in self.letters if one.letter_id == f"{topic}:{partition}:{offset}"), None)

    async def send(self, one: Raw, value: bytes, headers: Headers) -> None:
        if self.fault is not None:
            raise self.fault
        self.sent.append((one.source, value, headers))


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("gateway")) as app:
        yield app


async def call(made: InProcess, method: str, path: str, body: Any = None, tenant: str = "default", role: str = "operator") -> Any:
    async with made.http(**{"x-api-key": await made.key(role, tenant, "ann")}) as http:
        answer = await http.request(method, f"/v1/letters{path}", json=body)
    return answer.status_code, answer.json()


async def open_box(made: InProcess, *letters: Raw) -> Box:
    box = Box(list(letters))
    made.gateway.letters = box  # type: ignore[assignment]
    await made.execute("DELETE FROM letter_act")
    await made.execute("DELETE FROM audit")
    return box


async def test_only_operators_of_the_platform_see_letters(made: InProcess) -> None:
    await open_box(made, raw())
    for tenant, role in (("acme", "operator"), ("acme", "admin"), ("default", "reader"), ("default", "producer")):
        for method, path in (("GET", ""), ("GET", f"/{TOPIC}:0:7"), ("POST", f"/{TOPIC}:0:7/redrive"), ("POST", "/discard")):
            assert (await call(made, method, path, {} if method == "POST" else None, tenant, role))[0] == 403
    assert (await call(made, "GET", ""))[1]["total"] == 1


async def test_a_letter_is_sent_again_once_and_shown_as_such(made: InProcess) -> None:
    one = raw()
    box = await open_box(made, one)
    status, answer = await call(made, "POST", f"/{one.letter_id}/redrive", {"reason": "fixed"})
    assert (status, answer["state"], answer["repeated"]) == (200, "redriven", False)
    assert box.sent == [("stage.reports", one.value, to_record(REPORT, "/t").headers)]
    _, answer = await call(made, "POST", f"/{one.letter_id}/redrive")
    assert answer["repeated"] and len(box.sent) == 1
    _, answer = await call(made, "POST", f"/{one.letter_id}/discard")
    assert answer["repeated"] and answer["state"] == "redriven", "it is no open letter any more"
    _, shown = await call(made, "GET", f"/{one.letter_id}")
    assert shown["state"] == "redriven" and (shown["act"]["by"], shown["act"]["reason"]) == ("ann", "fixed")
    assert (await call(made, "GET", ""))[1]["total"] == 0 and (await call(made, "GET", "?state=all"))[1]["total"] == 1
    _, answer = await call(made, "POST", f"/{one.letter_id}/redrive", {"again": True})
    assert not answer["repeated"] and len(box.sent) == 2
    lines = [json.loads(body) for (body,) in await made.rows("SELECT body FROM audit ORDER BY id")]
    assert [(x["verb"], x["subject"], x["by"]) for x in lines] == [("letter.redriven", one.letter_id, "ann")] * 2


async def test_a_letter_that_cannot_be_sent_stays_open(made: InProcess) -> None:
    one = raw()
    box = await open_box(made, one)
    box.fault = NotPossible("no right")
    assert (await call(made, "POST", f"/{one.letter_id}/redrive"))[0] == 409
    assert (await call(made, "GET", f"/{one.letter_id}"))[1]["state"] == "open"
    box.fault = None
    assert (await call(made, "POST", f"/{one.letter_id}/redrive"))[1]["repeated"] is False and len(box.sent) == 1


async def test_an_edited_copy_is_sent(made: InProcess) -> None:
    one = raw()
    box = await open_box(made, one)
    assert (await call(made, "POST", f"/{one.letter_id}/edit", {}))[0] == 400
    assert (await call(made, "POST", f"/{one.letter_id}/edit", {"merge": {"job_id": None}}))[0] == 400
    status, answer = await call(made, "POST", f"/{one.letter_id}/edit", {"merge": {"job_id": "other"}})
    assert (status, answer["state"]) == (200, "edited") and json.loads(box.sent[0][1])["job_id"] == "other"


async def test_many_letters_by_a_filter(made: InProcess) -> None:
    box = await open_box(made, *(raw(n, "a" if n % 2 else "b") for n in range(10)))
    assert (await call(made, "POST", "/redrive", {}))[0] == 400, "not all without saying so"
    _, answer = await call(made, "POST", "/redrive", {"code": "a", "limit": 3})
    assert len(answer["done"]) == 3 and answer["left"] is True
    _, answer = await call(made, "POST", "/redrive", {"code": "a", "limit": 3})
    assert len(answer["done"]) == 2 and answer["left"] is False and len(box.sent) == 5
    _, answer = await call(made, "POST", "/discard", {"all": True, "reason": "test"})
    assert len(answer["done"]) == 5 and len(box.sent) == 5
    _, found = await call(made, "GET", "?state=all")
    assert {(line["state"], line["count"]) for line in found["summary"]} == {("redriven", 5), ("discarded", 5)}


async def test_a_letter_that_is_not_there(made: InProcess) -> None:
    await open_box(made)
    for letter_id in (f"{TOPIC}:0:1", "job.events:0:1", "x"):
        assert (await call(made, "GET", f"/{letter_id}"))[0] == 404
