"""One worker and its tasks: answers, heartbeats, time limits, cancellations, repeats, limits, the end of the process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contracts import derived
from contracts.stage import WORKER_STOPPED
from stageline_kit import Failed, Queued, Skipped, Task, TryAgain
from tests.conformance.workers.conftest import Launch
from tests.conformance.workers.harness import ACTION, EXAMPLE, TRACE, KitWorker, Orchestrator, Program, until


async def test_a_task_is_answered_once_under_its_lease(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch("w-1")
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    assert not orchestrator.ends() and orchestrator.committed() == 0, "nothing is committed before the report"
    program.released.add("l-1")
    await until(lambda: orchestrator.committed() == 1)
    (report,) = orchestrator.ends()
    repeated = ("job_id", "tenant_id", "file_id", "step", "attempt")
    assert [getattr(report, name) for name in repeated] == [getattr(EXAMPLE, name) for name in repeated]
    assert (report.lease, report.action, report.worker, report.result) == ("l-1", ACTION, "w-1", {"by": "l-1"})
    assert report.report_id == derived("l-1", "w-1", "end") and report.duration_ms is not None
    (record,) = orchestrator.broker.records("stage.reports")
    assert record.key == EXAMPLE.job_id.encode()
    assert dict(record.headers)["traceparent"].decode()[:36] == TRACE[:36], "the report belongs to the task's trace"


class Late(Failed):
    """A user's own outcome."""


async def raises(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (None, ("OK", None, {}, None)),
        ({"pages": 3}, ("OK", None, {"pages": 3}, None)),
        (Failed("bad", "is bad"), ("KO", "bad", {}, None)),
        (Late("late"), ("KO", "late", {}, None)),
        (TryAgain("busy"), ("ERR", "busy", {}, None)),
        (Skipped("empty"), ("SKIP", "empty", {}, None)),
        (Queued(7.5), ("QUEUED", "waiting", {}, 7.5)),
        (KeyError("k"), ("ERR", "worker_error", {}, None)),
        (TimeoutError(), ("ERR", "worker_error", {}, None)),
        (RuntimeError("x" * 10_000), ("ERR", "worker_error", {}, None)),
        ([], ("ERR", "invalid_result", {}, None)),
        ({"thing": object()}, ("ERR", "invalid_result", {}, None)),
        ({"text": "a\0b"}, ("ERR", "invalid_result", {}, None)),
        ({"text": "x" * 1_000_000}, ("KO", "result_too_large", {}, None)),
    ],
)
async def test_an_action_ends_in_one_report(
    launch: Launch, orchestrator: Orchestrator, program: Program, outcome: Any, found: tuple[Any, ...]
) -> None:
    async def behaviour(task: Task) -> Any:
        return await raises(outcome) if isinstance(outcome, Exception) else outcome

    program.behaviour = behaviour
    await launch()
    orchestrator.send_task("l-1")
    await until(lambda: orchestrator.committed() == 1)
    (report,) = orchestrator.reports()
    assert (report.status.value, report.code, report.result, report.retry_in) == found
    assert len(report.message or "") <= 4000


async def test_heartbeats_carry_progress_and_come_before_the_end(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    async def behaviour(task: Task) -> None:
        with pytest.raises(ValueError, match="0 or more"):
            task.progress(-1)
        await until(lambda: len(orchestrator.reports()) >= 2)
        task.progress(2, 5)
        await program.wait(task)

    program.behaviour = behaviour
    await launch()
    orchestrator.send_task("l-1", heartbeat_s=0.01)
    await until(lambda: orchestrator.reports() and orchestrator.reports()[-1].progress)
    program.released.add("l-1")
    await until(lambda: orchestrator.ends())
    reports = orchestrator.reports()
    assert [r.status.value for r in reports] == ["RUN"] * (len(reports) - 1) + ["OK"]
    assert reports[0].progress is None
    last = reports[-2].progress
    assert last is not None and (last.done, last.total) == (2, 5)
    assert len({r.report_id for r in reports}) == len(reports)


async def test_a_task_ends_at_its_time_limit(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch()
    orchestrator.send_task("l-1", timeout_s=0.02)
    await until(lambda: orchestrator.committed() == 1)
    (report,) = orchestrator.ends()
    assert (report.status.value, report.code) == ("ERR", "limit_time") and program.stopped == ["l-1"]


async def test_a_cancelled_task_stops_and_is_not_reported(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch()
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    orchestrator.cancel("l-1")
    await until(lambda: orchestrator.committed() == 1)
    assert program.stopped == ["l-1"] and orchestrator.reports() == []


async def test_a_cancellation_may_come_before_its_task(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch(concurrency=1)
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    orchestrator.send_task("l-2")
    orchestrator.cancel("l-2")
    orchestrator.send_task("l-3")
    program.released |= {"l-1", "l-3"}
    await until(lambda: orchestrator.committed() == 3)
    assert program.started == ["l-1", "l-3"] and [r.lease for r in orchestrator.ends()] == ["l-1", "l-3"]


async def test_an_action_that_ignores_its_cancellation_is_not_reported(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    async def behaviour(task: Task) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert task.cancelled
        return {"still": "here"}

    program.behaviour = behaviour
    await launch()
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    orchestrator.cancel("l-1")
    await until(lambda: orchestrator.committed() == 1)
    assert orchestrator.reports() == []


async def test_a_late_cancellation_changes_nothing(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch()
    program.released |= {"l-1", "l-2"}
    orchestrator.send_task("l-1")
    await until(lambda: orchestrator.committed() == 1)
    orchestrator.cancel("l-1")
    orchestrator.send_task("l-2")
    await until(lambda: orchestrator.committed() == 2)
    assert [r.lease for r in orchestrator.ends()] == ["l-1", "l-2"]


async def test_a_task_delivered_twice_while_it_runs_runs_once(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    await launch()
    for lease in ("l-1", "l-1", "l-2"):
        orchestrator.send_task(lease)
    program.released.add("l-2")
    await until(lambda: orchestrator.ends("l-2"))
    assert orchestrator.committed() == 0, "the report of l-1 is due"
    program.released.add("l-1")
    await until(lambda: orchestrator.committed() == 3)
    assert program.started == ["l-1", "l-2"] and len(orchestrator.ends("l-1")) == 1


async def test_a_task_delivered_after_its_end_is_reported_under_the_same_id(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    await launch()
    program.released.add("l-1")
    for count in (1, 2):
        orchestrator.send_task("l-1")
        await until(lambda n=count: orchestrator.committed() == n)
    assert len({r.report_id for r in orchestrator.ends()}) == 1


async def test_no_offset_is_committed_past_an_open_task(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch()
    for lease in ("l-1", "l-2", "l-3"):
        orchestrator.send_task(lease)
    program.released |= {"l-2", "l-3"}
    await until(lambda: len(orchestrator.ends()) == 2)
    assert orchestrator.committed() == 0
    program.released.add("l-1")
    await until(lambda: orchestrator.committed() == 3)
    offsets = [offset for _, offset in orchestrator.broker.commits]
    assert offsets == sorted(offsets)


async def test_at_most_so_many_tasks_run_at_once(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch(concurrency=2)
    leases = [f"l-{n}" for n in range(7)]
    for lease in leases:
        orchestrator.send_task(lease)
    await until(lambda: len(program.started) == 2)
    program.released.update(leases)
    await until(lambda: orchestrator.committed() == 7)
    assert program.most == 2 and len(orchestrator.ends()) == 7


async def test_a_worker_says_that_it_is_there_and_that_it_goes(launch: Launch, orchestrator: Orchestrator) -> None:
    worker = await launch("w-1", concurrency=3)
    await until(orchestrator.seen)
    await worker.stop()
    first, *_, last = orchestrator.seen()
    assert (first.worker, first.actions, first.slots, first.leaving) == ("w-1", (ACTION,), 3, False)
    assert last.leaving and last.holds == ()


async def test_a_worker_says_what_it_runs(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    worker = await launch("w-1", concurrency=3)
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    await worker.engine.announce()
    [held] = orchestrator.seen()[-1].holds or ()
    assert (held.action, held.attempt) == (ACTION, 2) and held.job_id and held.since.tzinfo is not None
    program.released.add("l-1")
    await until(orchestrator.ends)
    await worker.engine.announce()
    assert orchestrator.seen()[-1].holds == ()


async def test_a_worker_that_stops_finishes_what_it_has_begun(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    worker = await launch(concurrency=1)
    orchestrator.send_task("l-1")
    orchestrator.send_task("l-2")
    await until(lambda: program.started)
    stopping = asyncio.create_task(worker.stop())
    await until(lambda: worker.engine.draining)
    program.released |= {"l-1", "l-2"}
    await stopping
    assert program.started == ["l-1"] and [r.lease for r in orchestrator.ends()] == ["l-1"]
    assert orchestrator.committed() == 1, "what was not begun is delivered to somebody else"


async def test_a_task_that_outlasts_the_shutdown_is_cut_off_and_delivered_again(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    worker = await launch("w-1", drain_s=0.05)
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    await worker.stop()
    assert program.stopped == ["l-1"] and orchestrator.ends() == [] and orchestrator.committed() == 0
    program.released.add("l-1")
    await launch("w-2")
    await until(lambda: orchestrator.committed() == 1 and orchestrator.ends())
    assert [r.worker for r in orchestrator.ends()] == ["w-2"]


async def test_a_task_that_has_reported_is_handed_back_at_the_shutdown(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    worker = await launch("w-1", drain_s=0.2)
    orchestrator.send_task("l-1", heartbeat_s=0.01)
    await until(lambda: orchestrator.committed() == 1)
    await worker.stop()
    (report,) = orchestrator.ends()
    assert (report.status.value, report.code, report.retry_in) == ("QUEUED", WORKER_STOPPED, 0.0) and program.stopped == ["l-1"]


async def test_a_result_that_the_topic_refuses_is_told_and_holds_nothing_up(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    """The topic's own limit may be lower than the platform's: the same record would be refused for ever."""

    async def behaviour(task: Task) -> dict[str, Any]:
        return {"text": "x" * (5000 if task.message.lease == "l-2" else 5)}

    program.behaviour = behaviour
    orchestrator.broker.largest = 2000
    await launch()
    for lease in ("l-1", "l-2", "l-3"):
        orchestrator.send_task(lease)
    await until(lambda: orchestrator.committed() == 3)
    assert {r.lease: (r.status.value, r.code) for r in orchestrator.ends()} == {
        "l-1": ("OK", None), "l-2": ("KO", "result_too_large"), "l-3": ("OK", None),
    }  # fmt: skip


@pytest.mark.parametrize("launch", [KitWorker], indirect=True, ids=["kit"])
async def test_what_was_cancelled_before_a_worker_came_is_not_begun(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    orchestrator.send_task("l-1")
    orchestrator.send_task("l-2")
    orchestrator.cancel("l-1")
    program.released |= {"l-1", "l-2"}
    await launch()
    await until(lambda: orchestrator.committed() == 2 and orchestrator.ends())
    assert program.started == ["l-2"]
