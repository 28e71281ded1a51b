"""Allocation of credits, times of schedules, and the reasons why a job makes no progress."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import PauseJob, TaskStatus
from services.job_orchestrator.core.allocation import Capacity, Claim, Control, capacity, caught_up, rank, shares
from services.job_orchestrator.core.explain import Facts, Reason, explain
from services.job_orchestrator.core.schedule import InvalidSchedule, next_time
from tests.unit.orchestration import Drive, workflow

CLAIMS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from([0.5, 1.0, 2.0, 5.0]), st.floats(0, 20)),
    min_size=1,
    max_size=6,
)


def claims(rows: list[tuple[int, int, float, float]]) -> list[Claim]:
    return [Claim(f"t{n}", waiting, free, weight, passed) for n, (waiting, free, weight, passed) in enumerate(rows)]


@given(CLAIMS, st.integers(0, 200))
def test_credits_are_given_as_far_as_they_are_wanted_and_free(rows: list[tuple[int, int, float, float]], free: int) -> None:
    made = claims(rows)
    given_ = shares(free, made)
    for claim, (waiting, room, _, _) in zip(made, rows, strict=True):
        assert given_.get(claim.tenant, 0) <= min(waiting, room)
    assert sum(given_.values()) == min(free, sum(min(w, r) for w, r, _, _ in rows)), (
        "no credit stays unused while a tenant may take it"
    )


@given(st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=2, max_size=5))
def test_tenants_that_all_wait_share_by_weight(weights: list[float]) -> None:
    made = claims([(10_000, 10_000, w, 0.0) for w in weights])
    total = 400
    given_ = shares(total, made)
    for claim, weight in zip(made, weights, strict=True):
        assert abs(given_[claim.tenant] - total * weight / sum(weights)) <= 2 * len(weights)


def test_a_flood_of_one_tenant_delays_another_by_one_turn() -> None:
    made = claims([(10_000, 10_000, 1.0, 500.0), (3, 10, 1.0, 0.0)])
    caught_up(made, frozenset({"t1"}))
    assert made[1].passed == 500.0, "a tenant's unused share is not saved up"
    assert shares(6, made) == {"t0": 3, "t1": 3}


@given(st.lists(st.floats(0.01, 5), max_size=60), st.floats(0.5, 20), st.integers(1, 10))
def test_a_rate_is_never_exceeded(waits: list[float], rate: float, burst: int) -> None:
    control, now, given_ = Control(rate_per_s=rate, burst=burst), 1000.0, 0
    for wait in waits:
        now += wait
        free = capacity(control, 0, now, None).free
        given_ += free
        control = Control(rate_per_s=rate, burst=burst, tokens=control.tokens_now(now) - free, tokens_at=now)
    assert given_ <= burst + rate * (now - 1000.0) + 1e-6


def test_the_gate_that_holds_tasks_back_is_named() -> None:
    assert capacity(Control(paused=True, by="ann", reason="night"), 0, 0, 10).gate == "paused"
    assert capacity(Control(limit=2), 2, 0, 10) == Capacity(0, "limit", {"limit": 2, "in_flight": 2})
    assert capacity(None, 10, 0, 10).gate == "window" and capacity(None, 3, 0, 10).free == 7
    held = capacity(Control(rate_per_s=2.0, tokens=0.5, tokens_at=100.0), 0, 100.0, None)
    assert (held.gate, held.at) == ("rate", 100.25)


def test_a_priority_is_a_head_start_of_an_hour() -> None:
    assert rank(1000, "high") < rank(1000, "normal") < rank(1000, "low")
    assert rank(1000, "normal") < rank(1000 + 3601, "high"), "nobody starves"


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 6 * * 1-5", "Europe/Berlin", "2026-11-20T12:00:00+00:00", "2026-11-23T05:00:00+00:00"),
        ("@daily", "Europe/Berlin", "2026-11-20T12:00:00+00:00", "2026-11-20T23:00:00+00:00"),
        ("@weekly", "UTC", "2026-11-20T12:00:00+00:00", "2026-11-22T00:00:00+00:00"),
        ("*/15 * * * *", "UTC", "2026-11-20T12:01:00+00:00", "2026-11-20T12:15:00+00:00"),
        # The clock jumps from 2:00 to 3:00, so the job of 2:30 starts at 3:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", "2026-03-29T01:00:00+00:00"),
    ],
)
def test_schedules_follow_the_clock_of_their_zone(cron: str, zone: str, after: str, expected: str) -> None:
    assert next_time(cron, zone, datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    ("cron", "zone", "field"),
    [
        ("61 * * * *", "UTC", "cron"),
        ("* * *", "UTC", "cron"),
        ("* * * * * *", "UTC", "cron"),
        ("@reboot", "UTC", "cron"),
        ("* * * * *", "Mars", "time_zone"),
    ],
)
def test_a_wrong_schedule_names_its_field(cron: str, zone: str, field: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        next_time(cron, zone, datetime(2026, 1, 1, tzinfo=UTC))
    assert caught.value.field == field


def why(drive: Drive, room: Capacity | None = None, seen: float | None = None, ahead: int = 0) -> Reason:
    assert drive.job is not None
    now = drive.now.timestamp()
    last = {} if seen is None else {f"a{n}": now - seen for n in range(3)}
    open_ = Capacity(5)
    return explain(drive.job, Facts(now, last, lambda action: room or open_, open_, lambda action: ahead))


def test_every_state_of_a_job_has_its_reason() -> None:
    drive = Drive(workflow({"retry": {"max_attempts": 2}}, {"scope": "job"}, {"wait": {"kind": "poke"}, "scope": "job"}), files=2)
    drive.feed(drive.start)
    assert why(drive).code == "no_worker" and "ever" in why(drive).message
    assert why(drive, seen=300).facts["since"] is not None and why(drive, seen=2).code == "queued"
    drive.report(drive.tasks[0], TaskStatus.RUN, worker="w7")
    found = why(drive, seen=2)
    assert found.code == "running" and found.facts["worker"] == "w7" and found.facts["tasks"] == {"running": 1, "queued": 1}
    drive.report(drive.tasks[0], TaskStatus.OK)
    drive.report(drive.tasks[1], TaskStatus.ERR, code="disk")
    found = why(drive, seen=2)
    assert found.code == "retry_due" and found.at == drive.branch("f1").due_at
    drive.verb(PauseJob, reason="stop")
    assert why(drive).code == "job_paused" and "stop" in why(drive).message


def test_a_task_that_waits_for_a_credit_names_the_limit() -> None:
    drive = Drive(workflow({}))
    drive.credits = lambda action: 0
    drive.feed(drive.start)
    assert why(drive, ahead=17).code == "behind" and "17" in why(drive, ahead=17).message
    for room, code in (
        (capacity(Control(limit=1), 1, 0, None), "action_limit"), (capacity(Control(paused=True, by="ann"), 0, 0, None), "action_paused"),
        (capacity(Control(rate_per_s=1.0, tokens=0, tokens_at=0), 0, 0, None), "rate"),
    ):  # fmt: skip
        assert why(drive, room).code == code


def test_a_task_that_kafka_does_not_take_is_the_reason() -> None:
    drive = Drive(workflow({"scope": "job"}), files=1)
    drive.feed(drive.start)
    assert drive.job is not None
    open_ = Capacity(5)
    facts = Facts(0.0, {"a0": 0.0}, lambda action: open_, open_, lambda action: 0, lambda action: f"no topic for {action}")
    reason = explain(drive.job, facts)
    assert reason.code == "not_sent" and reason.message == "the task for a0 is held back: no topic for a0"
