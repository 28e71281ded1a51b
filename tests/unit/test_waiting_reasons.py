"""Every reason why a job waits: the orchestrator finds it, and `job`, `--watch`, `GET /v1/jobs/{id}` and `why` show the same one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from cli.commands.job_page import job_page
from cli.commands.submit import file_table, render
from cli.waiting import reason_line
from contracts import ExplainJob, JobExplained, PauseJob, TaskStatus
from services.ingest.adapters.explanations import Explanations
from services.ingest.core import job_view
from services.ingest.projector import job_explained
from services.job_orchestrator.core.allocation import Capacity, Control, capacity
from services.job_orchestrator.core.explain import ORDER, Facts, Reason, explain
from shared import clock
from tests.gateway_app import AtOnce, InProcess, gateway_app
from tests.unit.orchestration import OWNER, Drive, workflow

OPEN = Capacity(5)
PAUSED = capacity(Control(paused=True, by="ann", reason="upgrade"), 0, 0, None)
FULL = capacity(Control(limit=1), 1, 0, None)
SLOW = capacity(Control(rate_per_s=1.0, tokens=0, tokens_at=0), 0, 0, None)


def begun(*steps: dict[str, Any], free: bool = True, files: int = 1, **request: Any) -> Drive:
    drive = Drive(workflow(*(steps or ({"retry": {"max_attempts": 2}},))), files=files, **request)
    if not free:
        drive.credits = lambda action: 0
    drive.feed(drive.start)
    return drive


def reported(status: TaskStatus, *steps: dict[str, Any], **more: Any) -> Drive:
    drive = begun(*steps, files=more.pop("files", 1))
    drive.report(drive.tasks[0], status, **more)
    return drive


def paused() -> Drive:
    drive = begun()
    drive.verb(PauseJob, reason="stop")
    return drive


def late() -> Drive:
    drive = Drive(workflow({}))
    drive.start = Drive(workflow({}), start_at=drive.now + timedelta(hours=1)).start
    drive.feed(drive.start)
    return drive


def finished() -> Drive:
    return reported(TaskStatus.OK)


def reason_of(
    drive: Drive, seen: float | None = 2.0, action: Capacity = OPEN, tenant: Capacity = OPEN, unsent: str | None = None
) -> Reason:
    """What the orchestrator says about the job."""
    assert drive.job is not None
    now = drive.now.timestamp()
    last = {} if seen is None else {f"a{n}": now - seen for n in range(3)}
    return explain(drive.job, Facts(now, last, lambda name: action, tenant, lambda name: 7, lambda name: unsent))


WAIT = {"wait": {"kind": "poke"}, "scope": "job"}
REASONS: dict[str, Callable[[], Reason]] = {
    "running": lambda: reason_of(reported(TaskStatus.RUN, worker="w7")),
    "child_job": lambda: reason_of(begun({"job": {"workflow": "other"}})),
    "not_sent": lambda: reason_of(begun(), unsent="no such topic"),
    "no_worker": lambda: reason_of(begun(), seen=None),
    "queued": lambda: reason_of(begun()),
    "action_paused": lambda: reason_of(begun(free=False), action=PAUSED),
    "tenant_paused": lambda: reason_of(begun(free=False), tenant=PAUSED),
    "tenant_limit": lambda: reason_of(begun(free=False), tenant=FULL),
    "action_limit": lambda: reason_of(begun(free=False), action=FULL),
    "rate": lambda: reason_of(begun(free=False), action=SLOW),
    "behind": lambda: reason_of(begun(free=False)),
    "retry_due": lambda: reason_of(reported(TaskStatus.ERR, code="disk")),
    "waiting_for_approval": lambda: reason_of(begun({"wait": {"kind": "approval"}})),
    "waiting_for_poke": lambda: reason_of(begun({"wait": {"kind": "poke"}})),
    "waiting_until": lambda: reason_of(begun({"wait": {"kind": "time", "for_s": 60}})),
    "job_paused": lambda: reason_of(paused()),
    "start_at": lambda: reason_of(late()),
}
"""Code → a job that waits for it, as the orchestrator explains it."""


class Told(AtOnce):
    """A wait whose result is the orchestrator's answer; None: it is silent, and the wait takes its whole time."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer

    async def result(self, timeout_s: float, patient: bool = False) -> Any:
        if self.answer is None:
            await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=timeout_s)
        return self.answer


class Orchestrator:
    """Answers each question with `answer`."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.answer = answer

    def wait(self, kind: str, repeated: bool = False) -> Told:
        return Told(self.answer)


def projected(reason: Reason) -> dict[str, Any]:
    """The orchestrator's answer as the gateway reads it from the topic."""

    class Batch:
        decisions: list[tuple[str, dict[str, Any]]] = []

    at = None if reason.at is None else clock.now() + timedelta(seconds=60)
    event = JobExplained(
        answer_id="a", command_id="c", tenant_id="acme", job_id="j", occurred_at=clock.now(), code=reason.code, message=reason.message,
        facts=dict(reason.facts), changes_at=at,
    )  # fmt: skip
    job_explained(Batch(), event, None)  # type: ignore[arg-type]
    return Batch.decisions.pop()[1]


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("gateway")) as app:
        yield app


async def new_job(made: InProcess, answer: dict[str, Any] | None, **fields: Any) -> str:
    """A job of the read model about which the orchestrator says `answer`."""
    explanations = made.gateway.explanations
    explanations.decisions = Orchestrator(answer)  # type: ignore[assignment]
    explanations.patience_s = explanations.timeout_s = 0.05
    job_id = clock.new_root()
    record = {**job_view.new_job(job_id, "acme", clock.now()), "stage": "in_progress", "sequence": 3, **fields}
    insert = "INSERT INTO job_view (id, tenant_id, created_at, body) VALUES (:id, 'acme', 0, :body)"
    await made.execute(insert, id=job_id, body=json.dumps(record))
    return job_id


async def ask(made: InProcess, job_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job, and why it waits."""
    async with made.http(**{"x-api-key": await made.key("reader")}) as http:
        job = (await http.get(f"/v1/jobs/{job_id}")).json()
        why = (await http.get(f"/v1/jobs/{job_id}/why")).json()
    return job, why


def shown(view: Any) -> str:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_every_code_of_the_orchestrator_has_its_test() -> None:
    assert set(ORDER) <= {*REASONS, "waiting_for_files"}


def test_a_step_of_the_job_waits_for_files() -> None:
    drive = begun({}, {"scope": "job"}, {}, files=2)
    drive.report(drive.tasks[0])
    found = reason_of(drive)
    assert found.code == "queued" and found.facts["tasks"] == {"waiting_for_files": 1, "queued": 1}


@pytest.mark.parametrize("code", REASONS)
async def test_all_four_show_the_orchestrators_reason(code: str, made: InProcess) -> None:
    reason = REASONS[code]()
    assert reason.code == code
    job, why = await ask(made, await new_job(made, projected(reason)))
    assert (why["code"], why["message"], why["facts"]) == (code, reason.message, json.loads(json.dumps(dict(reason.facts))))
    assert {**job["waiting"], "job_id": job["id"]} == why and why["as_of"]
    line = Text.from_markup(reason_line(why)).plain
    assert reason.message in line and code in line and ("changes at" in line) == (why["changes_at"] is not None)
    assert line.partition(" (in ")[0] in shown(job_page({**job, "history": []}, file_table([], 5)))
    assert line.partition(" (in ")[0] in shown(render([job], 1.0, 50))


async def test_an_ended_job_says_so_without_a_question(made: InProcess) -> None:
    assert reason_of(finished()).code == "ended"
    job, why = await ask(made, await new_job(made, None, stage="failed", error_messages=["no text"]))
    assert job["waiting"] is None and (why["code"], why["message"]) == ("ended", "the job is failed: no text")


async def test_an_end_that_was_not_read_yet_is_pending(made: InProcess) -> None:
    job, why = await ask(made, await new_job(made, projected(reason_of(finished()))))
    assert job["waiting"]["code"] == why["code"] == "results_pending" and "completed" in why["message"]
    job, why = await ask(made, await new_job(made, None, ending={"stage": "completed", "file_ends": 2}))
    assert job["waiting"]["code"] == why["code"] == "results_pending" and why["facts"]["file_ends"] == 2


async def test_a_job_that_the_orchestrator_does_not_have_yet_is_arriving(made: InProcess) -> None:
    unknown = {"ok": False, "reason": "unknown_job", "message": "there is no such job"}
    job, why = await ask(made, await new_job(made, unknown, sequence=0))
    assert job["waiting"]["code"] == why["code"] == "arriving"
    job, why = await ask(made, await new_job(made, unknown))
    assert job["waiting"]["code"] == why["code"] == "unknown_job", "it has told of it before"


async def test_without_the_orchestrator_the_last_answer_is_shown_with_its_age(made: InProcess) -> None:
    job_id = await new_job(made, projected(REASONS["no_worker"]()))
    await ask(made, job_id)
    made.gateway.explanations.decisions = Orchestrator(None)  # type: ignore[assignment]
    _, why = await ask(made, job_id)
    assert why["code"] == "orchestrator_silent" and why["facts"]["last_known"]["code"] == "no_worker"
    assert "its last answer, 0 s ago: no live worker" in why["message"] and why["facts"]["age_s"] < 5
    assert why["as_of"] == why["facts"]["last_known"]["as_of"]


async def test_without_any_answer_the_last_event_is_shown_with_its_age(made: InProcess) -> None:
    hour_ago = job_view.text(clock.now() - timedelta(hours=1))
    retry = {"step": "text", "code": "busy", "message": "later", "attempt": 2, "file_id": None, "retry_at": 60.0}
    job_id = await new_job(made, None, step="text", update_date=hour_ago)
    job, why = await ask(made, job_id)
    assert "the job's last event, 1.0 h ago: the job was in_progress at text" in why["message"]
    assert job["waiting"]["code"] == "orchestrator_silent" and why["as_of"] == hour_ago
    _, why = await ask(made, await new_job(made, None, retry=retry))
    assert why["facts"]["last_known"]["code"] == "retry_due" and why["changes_at"] == "1970-01-01T00:01:00.000Z"


async def test_one_question_serves_all_that_ask_and_silence_is_waited_for_once(made: InProcess) -> None:
    job_id = await new_job(made, projected(REASONS["queued"]()))
    asked = made.publisher.published
    asked.clear()
    explanations: Explanations = made.gateway.explanations
    record = (await made.gateway.record("job_view", job_id, "acme")) or {}
    answers = await asyncio.gather(*(explanations.explain(record, OWNER, None) for _ in range(20)))
    await explanations.explain(record, OWNER, None)
    assert {a["code"] for a in answers} == {"queued"} and [type(m) for _, m in asked] == [ExplainJob]
    await explanations.explain({**record, "sequence": 4}, OWNER, None)
    assert len(asked) == 2, "a job that has moved is asked about again"
    explanations.decisions = Orchestrator(None)  # type: ignore[assignment]
    explanations.timeout_s, explanations.patience_s = 60.0, 0.05
    other = {**record, "id": "other"}
    assert (await explanations.explain(other, OWNER, None))["code"] == "orchestrator_silent"
    explanations.patience_s = 60.0
    assert (await asyncio.wait_for(explanations.explain(other, OWNER, None), 5))["code"] == "orchestrator_silent"
    for question in explanations._open.values():
        question.cancel()
