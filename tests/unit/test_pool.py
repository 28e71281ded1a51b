"""The worker's pool sends exactly one valid final report per task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from contracts import Message, StageReport, StageTask, TaskStatus
from services.stage_worker.adapters.documents.fault import DocumentFault
from services.stage_worker.pool import Pool
from services.stage_worker.ports import Answer, ok
from services.stage_worker.reporter import Mark
from shared.processing.records import Inbound
from shared.telemetry.tracing import Telemetry
from tests.contracts.examples import OTHERS
from tests.eventually import eventually

TASK = next(m for m in OTHERS if isinstance(m, StageTask))
MARK = (TopicPartition("stage.tasks.text.extract", 0), 7)


class Noted:
    """A reporter that collects reports, and refuses one that cannot be serialised."""

    def __init__(self) -> None:
        self.reports: list[StageReport] = []
        self.closed: list[Mark] = []

    def put(self, topic: str, message: Message, trace: str | None, marks: Sequence[Mark]) -> None:
        message.to_json()
        assert isinstance(message, StageReport)
        self.reports.append(message)
        self.closed += marks

    def done(self, mark: Mark) -> None:
        self.closed.append(mark)


async def answered(action: Any, cancel: bool = False) -> Noted:
    noted: Any = Noted()
    pool = Pool({TASK.action: action}, noted, Telemetry("t", "i"), "w-1", 2)
    await pool.accept(Inbound(TASK, "stage.tasks.text.extract", 0, 7, 0.0, b"k", b"", ()), MARK)
    if cancel:
        pool.cancel(TASK.lease, "enough")

    async def closed() -> bool:
        return bool(noted.closed)

    await eventually(closed, 5)
    return noted  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "answer", [Answer(TaskStatus.OK), Answer(TaskStatus.KO), ok(pages=3), Answer(TaskStatus.ERR, "code", "why")]
)
async def test_a_report_survives_serialisation(answer: Answer) -> None:
    async def action(task: StageTask, progress: Any) -> Answer:
        return answer

    (report,) = (await answered(action)).reports
    read = StageReport.read(report.to_json())
    assert json.loads(read.to_json()) == json.loads(report.to_json())
    assert (read.status, read.code, read.message, read.result) == (answer.status, answer.code, answer.message, answer.result)


async def test_a_result_that_is_not_an_object_is_refused() -> None:
    async def action(task: StageTask, progress: Any) -> Answer:
        return Answer(TaskStatus.OK, result=[])  # type: ignore[arg-type]

    (report,) = (await answered(action)).reports
    assert (report.status, report.code) == (TaskStatus.ERR, "invalid_result")


def raising(error: Exception) -> Any:
    async def action(task: StageTask, progress: Any) -> Answer:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DocumentFault("damaged", "broken"), TaskStatus.KO, "damaged"),
        (DocumentFault("source_unavailable", "away", retriable=True), TaskStatus.ERR, "source_unavailable"),
        (RuntimeError("x" * 10_000), TaskStatus.ERR, "worker_error"),
        (TimeoutError(), TaskStatus.ERR, "limit_time"),
    ],
)
async def test_failures_are_typed_answers(error: Exception, status: TaskStatus, code: str) -> None:
    (report,) = (await answered(raising(error))).reports
    assert (report.status, report.code) == (status, code) and report.lease == TASK.lease
    assert report.message is not None and len(report.message) <= 4000


async def test_a_result_that_is_not_json_is_an_error_and_leaves_no_open_task() -> None:
    async def action(task: StageTask, progress: Any) -> Answer:
        return ok(thing=object())

    noted = await answered(action)
    assert [(r.status, r.code) for r in noted.reports] == [(TaskStatus.ERR, "invalid_result")] and noted.closed == [MARK]


async def test_a_cancelled_task_is_closed_without_a_report() -> None:
    async def action(task: StageTask, progress: Any) -> Answer:
        await asyncio.Event().wait()
        return ok()

    noted = await answered(action, cancel=True)
    assert noted.reports == [] and noted.closed == [MARK]
