"""Approvals: which jobs may wait for one, what the orchestrator says of them, and which step an answer is for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from cli.client import CliError
from cli.commands.approvals import page_of, step_of
from contracts import PokeJob
from services.ingest.adapters.store import operations
from services.ingest.core import job_view
from services.ingest.core.approvals import approval_steps, may_wait
from services.job_orchestrator.core.explain import approvals
from shared import clock
from tests.contracts.examples import OTHERS
from tests.gateway_app import InProcess, gateway_app
from tests.unit.orchestration import Drive, workflow
from tests.unit.test_waiting_reasons import Told

APPROVAL: dict[str, Any] = {"wait": {"kind": "approval", "timeout_s": 60}}


def published(name: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": 1,
        "definition": {"steps": [{"name": f"s{n}", **step} for n, step in enumerate(steps)], **more},
    }


def test_which_workflows_have_approvals() -> None:
    found = approval_steps(
        [
            published("none", {"action": "noop"}, {"wait": {"kind": "poke"}}), published("job", {"scope": "job", **APPROVAL}),
            published("file", {"scope": "job", **APPROVAL}, APPROVAL),
            published("rescue", {"action": "noop"}, rescue=[{"name": "ask", "scope": "job", **APPROVAL}]),
        ]
    )  # fmt: skip
    assert found == {"job@1": frozenset({"s0"}), "file@1": None, "rescue@1": frozenset({"ask"})}
    assert [may_wait({"workflow": w, "step": "s0"}, found) for w in ("job@1", "file@1", "none@1", "rescue@1")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_orchestrator_lists_all_steps_that_wait_for_a_person() -> None:
    drive = Drive(workflow(APPROVAL, {}), files=2)
    drive.feed(drive.start)
    assert drive.job is not None
    now = drive.now.isoformat(timespec="seconds")
    end = (drive.now + timedelta(seconds=60)).isoformat(timespec="seconds")
    assert approvals(drive.job) == [{"step": "s0", "file_id": f, "since": now, "due_at": end} for f in ("f0", "f1")]
    drive.now += timedelta(seconds=9)
    drive.verb(PokeJob, step="s0", file_id="f0", approval=True)
    assert [one["file_id"] for one in approvals(drive.job)] == ["f1"]


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("gateway")) as app:
        yield app


class ByJob:
    """Answers about each job; silent about the others."""

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def wait(self, kind: str, repeated: bool = False) -> Told:
        waits = Told(None)
        waits.on_command = lambda command_id, read=None: self._choose(waits, command_id)  # type: ignore[method-assign,assignment]
        return waits

    def _choose(self, waits: Told, command_id: str) -> None:
        self.asked.append(command_id)
        found = self.answers.pop(next(iter(self.answers))) if self.answers else None
        why = {"code": "waiting_for_approval", "message": "-", "changes_at": None, "as_of": "2026-01-01T00:00:00.000Z"}
        waits.answer = None if found is None else {"ok": True, "why": {**why, "facts": {"approvals": found} if found else {}}}


async def test_the_list_has_the_tenants_jobs_that_wait_the_longest_first(made: InProcess) -> None:
    event = next(m for m in OTHERS if type(m).__name__ == "WorkflowPublished")
    for one in (published("job", {"scope": "job", **APPROVAL}), published("file", APPROVAL)):
        message = event.model_copy(update=one)
        await made.store.transact(lambda c, m=message: operations.save_workflow(c, m))
    rows = [
        ("j1", "acme", "job@1", "in_progress", "s0"), ("j2", "acme", "file@1", "in_progress", "x"), ("j3", "acme", "job@1", "in_progress", "x"),
        ("j4", "acme", "job@1", "completed", "s0"), ("j5", "other", "job@1", "in_progress", "s0"), ("j6", "acme", "file@1", "started", None),
    ]  # fmt: skip
    for n, (job_id, tenant, name, stage, step) in enumerate(rows):
        record = {**job_view.new_job(job_id, tenant, clock.now()), "stage": stage, "step": step, "workflow": name, "sequence": 1}
        insert = "INSERT INTO job_view (id, tenant_id, created_at, body, stage, workflow) VALUES (:id, :t, :at, :body, :s, :w)"
        await made.execute(insert, id=job_id, t=tenant, at=n, body=json.dumps(record), s=stage, w=name)
    line = {"step": "s0", "file_id": None, "due_at": None}
    explanations = made.gateway.explanations
    explanations.decisions = ByJob({"j1": [{**line, "since": "2026-01-02"}], "j2": [{**line, "since": "2026-01-01"}]})  # type: ignore[assignment]
    explanations.patience_s = explanations.timeout_s = 0.05
    async with made.http(**{"x-api-key": await made.key("reader")}) as http:
        found = (await http.get("/v1/approvals")).json()
        assert [x["job_id"] for x in found["result"]] == ["j2", "j1"] and found["unknown"] == ["j6"] and not found["more"]
        assert (await http.get("/v1/approvals?limit=1")).json()["more"] is True


def test_the_page_says_what_waits_and_what_is_not_known() -> None:
    line = {
        "job_id": "j1",
        "step": "ask",
        "file_id": "f",
        "workflow": "w@1",
        "since": (clock.now() - timedelta(hours=2)).isoformat(),
        "due_at": None,
    }
    console = Console(width=200)
    with console.capture() as capture:
        console.print(page_of({"result": [line], "unknown": ["j9"], "more": True}))
        console.print(page_of({"result": [], "unknown": [], "more": False}))
    text = capture.get()
    for part in ("j1", "ask", "2.0 h", "did not answer about j9", "more jobs may wait", "nothing waits for an approval"):
        assert part in text


def test_an_answer_is_for_the_one_step_that_waits() -> None:
    def waits(*steps: str) -> dict[str, Any]:
        return {"message": "it runs", "facts": {"approvals": [{"step": s} for s in steps]} if steps else {}}

    assert step_of("j", waits("ask", "ask")) == "ask"
    with pytest.raises(CliError, match="waits for no approval: it runs"):
        step_of("j", waits())
    with pytest.raises(CliError, match="--step: a, b"):
        step_of("j", waits("b", "a"))
