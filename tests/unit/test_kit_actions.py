"""What becomes of an action's faults, threads and processes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contracts import StageReport
from stageline_kit import Failed, Task, Worker, function_threads
from stageline_kit.runner import MAX_REPORT_BYTES
from stageline_kit.testing import run_action
from tests.eventually import eventually
from tests.unit.kit_actions import worker as isolated

BAD = "a\0b\ud800c \U0001f600"


def with_action(function: Callable[[Task], Any]) -> Worker:
    made = Worker("nowhere:1", "w-1")
    made.action("acme.act")(function)
    return made


async def end(function: Callable[[Task], Any], **more: Any) -> StageReport:
    return (await run_action(with_action(function), "acme.act", **more))[-1]


def raising(error: BaseException, plain: bool) -> Callable[[Task], Any]:
    def act(task: Task) -> None:
        raise error

    async def act_async(task: Task) -> None:
        raise error

    return act if plain else act_async


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize(
    "error", [TimeoutError("no answer of the mail server"), asyncio.CancelledError("their own"), SystemExit(3), KeyboardInterrupt(), StopIteration()]
)  # fmt: skip
async def test_an_actions_own_exception_is_its_failure(error: BaseException, plain: bool) -> None:
    """Not the worker's time limit, not its shutdown, and not its end."""
    report = await asyncio.wait_for(end(raising(error, plain)), 5)
    assert (report.status.value, report.code) == ("ERR", "worker_error")
    assert type(error).__name__ in (report.message or "") and str(error) in (report.message or "")


async def test_a_cancelled_run_is_not_reported() -> None:
    reports: list[StageReport] = []
    started = asyncio.Event()

    async def waits(task: Task) -> None:
        started.set()
        await asyncio.Event().wait()

    async def whole() -> None:
        reports.extend(await run_action(with_action(waits), "acme.act"))

    run = asyncio.create_task(whole())
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert reports == []


async def test_an_action_that_turns_its_time_limit_into_an_error_has_reached_its_limit() -> None:
    async def act(task: Task) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("interrupted") from None

    assert (await end(act, timeout_s=0.02)).code == "limit_time"


@pytest.mark.parametrize("kind", [Failed, None])
async def test_texts_that_no_message_can_hold_are_cleaned(kind: type[Failed] | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "stageline_kit")  # pytest-xdist cannot pass on what is logged here
    report = await end(raising(kind("bad\0", BAD) if kind else ValueError(BAD), False))
    assert report.status.value == ("KO" if kind else "ERR")
    assert report.code == ("bad\ufffd" if kind else "worker_error")
    assert (report.message or "").endswith("a\ufffdb\ufffdc \U0001f600")
    assert StageReport.read(report.to_json()).message == report.message


async def test_a_result_over_the_record_limit_fails_at_once_and_says_so() -> None:
    report = await end(lambda task: {"text": "x" * MAX_REPORT_BYTES})
    assert (report.status.value, report.code, report.result) == ("KO", "result_too_large", {})
    assert str(MAX_REPORT_BYTES) in (report.message or "")
    fits = await end(lambda task: {"text": "x" * (MAX_REPORT_BYTES - 2000)})
    assert fits.status.value == "OK"


@pytest.mark.parametrize(
    ("given", "found"),
    [((3,), (3, None)), ((3, 12), (3, 12)), ((0.25,), (25, 100)), ((0.29,), (29, 100)), ((1.0,), (100, 100)), ((1,), (1, None)), ((25, 100), (25, 100)), ((0.0,), (0, 100)),
     ((2.5, 10), (25, 100)), ((Decimal("0.5"),), (50, 100)), ((30.0, 40), (75, 100)), ((0, 0), (0, 0)), ((13, 12), (13, 12))],
)  # fmt: skip
async def test_progress_is_units_or_a_share(given: tuple[Any, ...], found: tuple[int, int | None]) -> None:
    async def act(task: Task) -> None:
        task.progress(*given)
        await asyncio.Event().wait()

    reports = await run_action(with_action(act), "acme.act", heartbeat_s=0.01, timeout_s=0.05)
    progress = reports[0].progress
    assert progress is not None and (progress.done, progress.total) == found


@pytest.mark.parametrize("given", [(-1,), (1.5,), (50.0,), (float("nan"),), (float("inf"), 2), (1, -1), ("3",), (True,), (None,)])
async def test_a_wrong_progress_is_an_error_with_its_reason(given: tuple[Any, ...]) -> None:
    report = await end(lambda task: task.progress(*given))
    assert report.code == "worker_error" and "progress: " in (report.message or "")


async def test_as_many_plain_functions_run_at_once_as_there_are_tasks() -> None:
    """Python's own pool has a few threads more than cores."""
    together = threading.Barrier(60)
    made = with_action(lambda task: {"n": together.wait(10)})
    reports = await asyncio.gather(*(run_action(made, "acme.act") for _ in range(60)))
    assert {r[-1].status.value for r in reports} == {"OK"}


async def test_a_function_that_hangs_is_reported_and_counted_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_threads, "HUNG_AFTER_S", 0.01)
    released = threading.Event()
    hung: list[Task] = []
    threads = function_threads.FunctionThreads(hung.append)
    made = with_action(lambda task: released.wait(20))
    reports = await run_action(made, "acme.act", timeout_s=0.02, threads=threads)
    assert reports[-1].code == "limit_time"

    async def counted() -> bool:
        return threads.hung == 1

    await eventually(counted, 5)
    assert [task.action for task in hung] == ["acme.act"] and hung[0].cancelled
    released.set()

    async def over() -> bool:
        return threads.hung == 0

    await eventually(over, 5)


async def test_a_function_that_heeds_its_cancellation_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_threads, "HUNG_AFTER_S", 0.5)
    hung: list[Task] = []
    ended = threading.Event()

    def act(task: Task) -> None:
        while not task.cancelled:
            ended.wait(0.005)
        ended.set()

    await run_action(with_action(act), "acme.act", timeout_s=0.02, threads=function_threads.FunctionThreads(hung.append))
    assert await asyncio.to_thread(ended.wait, 5) and hung == []


async def in_process(action: str, **more: Any) -> list[StageReport]:
    return await run_action(isolated, action, **more)


async def test_an_action_in_a_process_sees_its_task_and_answers() -> None:
    report = (await in_process("own.process", config={"x": 1}))[-1]
    assert report.status.value == "OK" and report.result["pid"] != os.getpid()
    assert (report.result["job"], report.result["config"]) == ("job-1", {"x": 1})


@pytest.mark.parametrize(("how", "found"), [("ko", ("KO", "bad", "is bad")), ("wait", ("QUEUED", "waiting", "waiting")),
                                            ("bug", ("ERR", "worker_error", "KeyError: 'k'")), ("exit", ("ERR", "worker_error", "SystemExit: 3"))])  # fmt: skip
async def test_an_action_in_a_process_has_the_same_outcomes(how: str, found: tuple[str, str, str]) -> None:
    report = (await in_process("own.raises", config={"how": how}))[-1]
    assert (report.status.value, report.code, report.message) == found
    assert report.retry_in == (7.5 if how == "wait" else None)


async def test_the_end_of_an_actions_process_is_its_failure() -> None:
    report = (await in_process("own.dies"))[-1]
    assert (report.status.value, report.code) == ("ERR", "crashed") and "-9" in (report.message or "")
    assert (await in_process("own.no_pickle"))[-1].code == "worker_error"


async def test_the_time_limit_ends_a_process_and_what_it_has_started(tmp_path: Path) -> None:
    note = tmp_path / "note"
    reports = await in_process("own.hang", config={"note": str(note)}, timeout_s=5, heartbeat_s=0.05)
    assert reports[-1].code == "limit_time"
    pids = [int(pid) for pid in note.read_text().split()]

    async def gone() -> bool:
        return not any(is_running(pid) for pid in pids)

    await eventually(gone, 5)


def is_running(pid: int) -> bool:
    """True for a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_action_in_a_process_must_be_found_by_its_name() -> None:
    made = Worker("nowhere:1", "w-1")
    with pytest.raises(ValueError, match="top of a module"):
        made.action("acme.act", isolation="process")(lambda task: None)


async def test_a_worker_unpickles_nothing_of_an_actions_process(tmp_path: Path) -> None:
    report = (await in_process("own.trap", config={"note": str(tmp_path / "sprung")}))[-1]
    assert (report.status.value, report.code) == ("ERR", "worker_error") and "no JSON" in (report.message or "")
    assert not (tmp_path / "sprung").exists()


async def test_an_odd_text_of_an_actions_process_is_cleaned() -> None:
    report = (await in_process("own.odd"))[-1]
    assert (report.status.value, report.code, report.message) == ("KO", "odd", "a\ufffdb")
