"""The kit without a broker: outcomes of actions, the inbox, the feed's order."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from contracts import JobStage, JobStageUpdate, JobState, StageReport, TaskStatus
from stageline_kit import Batch, Change, Event, Failed, Gap, Inbox, JobFeed, Queued, Skipped, Task, TryAgain, Worker
from stageline_kit.producer import new_id, topic_of
from stageline_kit.testing import run_action
from stageline_kit.watermark import Watermark
from tests.contracts.examples import OTHERS, example

worker = Worker("nowhere:1", "w-1")
AT = datetime(2026, 1, 1, tzinfo=UTC)


@worker.action("ok")
async def ok(task: Task) -> dict[str, Any]:
    return {"seen": task.config["x"], "before": task.results["fetch"]["y"], "order": (task.metadata or {}).get("order")}


@worker.action("plain")
def plain(task: Task) -> None:
    task.progress(1, 3)
    assert threading.current_thread() is not threading.main_thread(), "a plain function must not block the others"


@worker.action("raises")
async def raises(task: Task) -> None:
    raise {
        "ko": Failed("bad", "is bad"),
        "err": TryAgain("busy"),
        "skip": Skipped("empty"),
        "wait": Queued(7.5),
        "bug": KeyError("k"),
    }[task.config["how"]]


@worker.action("slow")
async def slow(task: Task) -> None:
    task.progress(2)
    await asyncio.Event().wait()


@worker.action("no_json")
async def no_json(task: Task) -> Any:
    return {"when": object()}


async def end(action: str, **more: Any) -> Any:
    return (await run_action(worker, action, **more))[-1]


async def test_a_result_is_ok_and_sees_config_earlier_results_and_metadata() -> None:
    report = await end("ok", config={"x": 1}, inputs={"fetch": {"y": 2}}, metadata={"order": "o-7"})
    assert (report.status, report.result, report.worker) == (TaskStatus.OK, {"seen": 1, "before": 2, "order": "o-7"}, "w-1")
    assert (await end("plain")).status is TaskStatus.OK


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("ko", "KO", "bad"),
        ("err", "ERR", "busy"),
        ("skip", "SKIP", "empty"),
        ("wait", "QUEUED", "waiting"),
        ("bug", "ERR", "worker_error"),
    ],
)
async def test_a_raised_exception_is_the_outcome(how: str, status: str, code: str) -> None:
    report = await end("raises", config={"how": how})
    assert (report.status.value, report.code) == (status, code)
    assert report.retry_in == (7.5 if how == "wait" else None)


async def test_an_unknown_action_and_a_result_that_is_not_json_are_reported() -> None:
    assert (await end("nobody")).code == "unknown_action"
    assert (await end("no_json")).code == "invalid_result"


@pytest.mark.parametrize(("action", "config"), [("plain", {}), ("ok", {"x": 1}), ("raises", {"how": "wait"}), ("slow", {})])
async def test_a_report_is_what_its_reader_reads(action: str, config: dict[str, Any]) -> None:
    """Reports without facts of an action are made without validation, so they are checked here."""
    inputs = {"fetch": {"y": 2}}
    for report in await run_action(worker, action, config=config, inputs=inputs, heartbeat_s=0.01, timeout_s=0.05):
        read = StageReport.read(report.to_json())
        assert (read.status, read.result, read.progress) == (report.status, report.result, report.progress)
        assert json.loads(read.to_json()) == json.loads(report.to_json())


async def test_a_long_task_beats_with_its_progress_and_ends_at_its_limit() -> None:
    reports = await run_action(worker, "slow", heartbeat_s=0.02, timeout_s=0.2)
    beats = [r for r in reports if r.status is TaskStatus.RUN]
    assert len(beats) >= 2 and beats[-1].progress is not None and beats[-1].progress.done == 2
    assert len({r.report_id for r in reports}) == len(reports) and reports[-1].code == "limit_time"


def test_an_action_has_one_function() -> None:
    with pytest.raises(ValueError, match="there is an action 'ok'"):
        worker.action("ok")(ok)
    with pytest.raises(ValueError, match="not a name"):
        worker.action("No Json")


def test_messages_know_their_topic() -> None:
    topics = {topic_of(m) for m in OTHERS if m.TYPE != "stageline.stage.task.v1"}
    assert topics == {"session.commands", "session.events", "job.commands", "operator.commands", "stage.reports", "stage.cancellations", "delivery.events", "access.events", "job.state",
                      "job.answers", "job.erasures", "secret.events", "stage.refusals", "stage.workers", "dispatch.backlog", "workflow.events", "schedule.state", "webhook.commands", "webhook.answers", "seal.keys"}  # fmt: skip
    assert new_id("order-1") == new_id("order-1") != new_id("order-2") and new_id() != new_id()


TP = TopicPartition("job.events", 0)


@given(st.permutations(range(12)), st.integers(0, 12))
def test_no_offset_is_committed_past_an_open_task(order: list[int], ended: int) -> None:
    mark = Watermark()
    for offset in range(12):
        mark.open_task((TP, offset))
    told = 0
    for n, offset in enumerate(order[:ended]):
        mark.close_task((TP, offset))
        told = mark.advance().get(TP, told)
        assert told == min(set(range(12)) - set(order[: n + 1]), default=12)


def stage_update(job: str, sequence: int) -> JobStageUpdate:
    event = example(JobStageUpdate)
    assert isinstance(event, JobStageUpdate)
    inner = event.event.model_copy(update={"job_id": job, "sequence": sequence})
    return event.model_copy(update={"event_id": f"{job}-{sequence}", "event": inner})


def batch(*messages: Any) -> Batch:
    return Batch([Event(m, "job.events", 0, n) for n, m in enumerate(messages)], [], None)  # type: ignore[arg-type]


def test_the_inbox_delivers_each_event_once_and_commits_your_rows_with_it() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE total (n INTEGER)")
    inbox = Inbox(connection)
    events = [stage_update("j", n) for n in (1, 2, 4)]
    with pytest.raises(RuntimeError), inbox.transaction(batch(*events)) as unseen:
        connection.execute("INSERT INTO total VALUES (?)", (len(unseen),))
        raise RuntimeError
    for _ in range(2):
        with inbox.transaction(batch(*events, events[0])) as unseen:
            connection.execute("INSERT INTO total VALUES (?)", (len(unseen),))
    assert [n for (n,) in connection.execute("SELECT n FROM total")] == [3, 0]
    assert inbox.gaps == [Gap("j", 3, 4)]
    connection.close()


def state(job: str, sequence: int) -> JobState:
    return JobState(
        job_id=job, tenant_id="t", sequence=sequence, stage=JobStage.IN_PROGRESS, workflow="w@1", created_at=AT, updated_at=AT,
        file_count=1, finished_files=0, failed_files=0, cancelled_files=0, retries=0,
    )  # fmt: skip


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 12))
def test_the_feed_is_in_order_without_repeats_or_gaps(seed: int, last: int, snapshot: int) -> None:
    """Events may repeat, and states of any age may overtake them. The feed yields rising sequences and accounts for each gap."""
    draw = random.Random(seed)
    arriving: list[Any] = [stage_update("j", n) for n in range(1, last + 1)]
    for n in draw.sample(range(last), min(3, last)):
        arriving.insert(draw.randrange(n, len(arriving)) + 1, arriving[n])
    for n in {min(snapshot, last), draw.randint(1, last)} - {0}:
        arriving.insert(draw.randrange(len(arriving) + 1), state("j", n))
    feed = JobFeed.__new__(JobFeed)
    feed.jobs, feed._held = {}, {}
    changes: list[Change] = []
    for message in arriving:
        changes += feed._apply_state(message) if isinstance(message, JobState) else feed._apply_event(message)
    sequences = [c.state.sequence for c in changes]
    assert sequences == sorted(set(sequences)) and sequences[-1] == last
    for before, after in zip([0, *sequences], changes, strict=False):
        assert after.event is None or after.event.event.sequence == before + 1 == after.state.sequence
    assert not feed._held and feed.jobs["j"].sequence == last
