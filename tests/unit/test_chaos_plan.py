"""The plan of a chaos run is a pure function of its seed, and every fault that it draws can have its effect."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.harness.plan import CALM_END_S, LASTING, MOODS, VERBS, WAYS, WEIGHTS, Parameters, make_plan
from tests.chaos.test_harness import RUNS

PARAMETERS = st.builds(
    Parameters,
    minutes=st.floats(0.1, 3), rate=st.floats(0.2, 10), store=st.sampled_from(["sqlite", "postgres"]),
    replicas=st.integers(1, 3), small_disk=st.booleans(),
)  # fmt: skip


@settings(max_examples=40)
@given(st.integers(0, 10_000), PARAMETERS)
def test_the_same_seed_draws_the_same_plan(seed: int, parameters: Parameters) -> None:
    plan = make_plan(seed, parameters)
    assert plan == make_plan(seed, parameters)
    assert plan.faults != make_plan(seed + 1, parameters).faults or not plan.faults
    ends = [f.at + f.lasts for f in plan.faults]
    assert all(f.at > 0 and end <= parameters.seconds - CALM_END_S + 0.02 for f, end in zip(plan.faults, ends, strict=True))
    assert all((f.lasts > 0) == (f.kind in LASTING) for f in plan.faults)
    assert {f.kind for f in plan.faults} <= set(parameters.weights())
    assert all(f.target in parameters.processes for f in plan.faults if f.kind in ("kill", "stop", "terminate"))
    times = [r.at for r in plan.load]
    assert times == sorted(times) and [r.number for r in plan.load] == list(range(len(plan.load)))
    submissions = {r.number for r in plan.load if r.way in WAYS}
    assert all(r.target in submissions and r.target < r.number for r in plan.load if r.way in VERBS)
    ids = [r.job_id for r in plan.load if r.way in WAYS]
    assert len(set(ids)) == len(ids)


@settings(max_examples=20)
@given(st.integers(0, 10_000), PARAMETERS)
def test_no_two_faults_at_a_time_concern_the_same(seed: int, parameters: Parameters) -> None:
    free: dict[str, float] = {}
    for fault in make_plan(seed, parameters).faults:
        where = "store" if fault.kind.startswith("store") or fault.kind == "disk_full" else fault.target
        where = "receiver" if fault.kind == "receiver" else where
        assert free.get(where, 0) <= fault.at
        free[where] = fault.at + fault.lasts


def test_another_rate_changes_no_fault() -> None:
    assert make_plan(7, Parameters(5, 1)).faults == make_plan(7, Parameters(5, 9)).faults


def test_an_hour_draws_every_fault_and_every_way() -> None:
    plan = make_plan(1, Parameters(60, 2, "postgres", 2, small_disk=True))
    assert {f.kind for f in plan.faults} == set(WEIGHTS)
    assert {f.target for f in plan.faults if f.kind == "receiver"} == set(MOODS)
    assert {f.target for f in plan.faults if f.kind == "kill"} == set(plan.parameters.processes)
    assert {r.way for r in plan.load} == {*WAYS, *VERBS}


@pytest.mark.parametrize(("store", "seed"), RUNS)
def test_the_minutes_of_the_slow_tier_have_many_kinds(store: str, seed: int) -> None:
    plan = make_plan(seed, Parameters(1, 2, store, 2 if store == "postgres" else 1))
    assert len({f.kind for f in plan.faults}) >= 9


def test_only_the_named_kinds_are_drawn() -> None:
    assert {f.kind for f in make_plan(3, Parameters(10, 1, kinds=("kill", "receiver"))).faults} == {"kill", "receiver"}
    assert "kill_database" not in Parameters(1, 1).weights() and "disk_full" not in Parameters(1, 1, "postgres", 2).weights()
