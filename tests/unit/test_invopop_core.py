"""Invopop's workflows as ours, and our history as its intents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.dialects.invopop.intents import faults, intents, note_unserved, status_of
from services.ingest.dialects.invopop.times import moment, place
from services.ingest.dialects.invopop.workflow_translation import BadFlow, translate
from services.ingest.http.errors import nested
from services.job_orchestrator.core.workflow import Workflow

ID = "11111111-0000-4000-8000-00000000000{}"


def step(n: int, action: str = "noop", **more: Any) -> dict[str, Any]:
    return {"id": ID.format(n), "name": f"Step {n}", "action": action, **more}


def ways(definition: dict[str, Any], status: str, code: str | None = None) -> dict[str, str | None]:
    """Where each step leads to when it ends so; None: the job fails."""
    found: dict[str, str | None] = {}
    steps = definition["steps"]
    for n, entry in enumerate(steps):
        following = steps[n + 1]["name"] if n + 1 < len(steps) else "end"
        rules = [r for r in entry.get("next", []) if r["status"] == status and r.get("code") in (None, code)]
        default = following if status in ("OK", "SKIP") else None
        found[entry["name"]] = rules[0]["to"] if rules else default
    return found


def test_branches_become_steps_in_a_row() -> None:
    branch = {"status": "KO", "code": "rejected", "steps": [step(3), step(4, "webhook")]}
    definition, shown = translate("tenant.x", 1, {"name": "F", "steps": [step(1), step(2, next=[branch]), step(5)]})
    workflow = Workflow.model_validate(definition)
    names = [s.name for s in workflow.steps]
    assert names == ["s1-step-1", "s2-step-2", "s4-step-3", "s5-step-4", "s3-step-5"]
    ok = ways(definition, "OK")
    assert ok["s2-step-2"] == "s3-step-5", "nobody takes a branch that is not his"
    assert ok["s4-step-3"] == "s5-step-4" and ok["s5-step-4"] == "s3-step-5", "a branch leads back"
    assert ways(definition, "KO", "rejected")["s2-step-2"] == "s4-step-3" and ways(definition, "KO", "other")["s2-step-2"] is None
    assert ways(definition, "ERR", "rejected")["s2-step-2"] == "s4-step-3", "an error whose retries are spent is a KO to them"
    assert shown["s5-step-4"]["provider"] == "webhook" and definition["steps"][3]["action"] == "http.webhook"


def test_jumps_stops_and_the_way_past_a_last_branch() -> None:
    flow = {
        "steps": [
            step(1, next=[{"status": "SKIP", "step_id": ID.format(3)}, {"status": "OK", "code": "x", "stop": True}]),
            step(2),
            step(3),
        ]
    }
    definition, _ = translate("tenant.x", 1, flow)
    Workflow.model_validate(definition)
    assert ways(definition, "SKIP")["s1-step-1"] == "s3-step-3" and ways(definition, "OK", "x")["s1-step-1"] == "end"
    assert ways(definition, "OK")["s1-step-1"] == "s2-step-2"
    last, _ = translate("tenant.x", 1, {"steps": [step(1, next=[{"status": "KO", "steps": [step(2)]}])]})
    Workflow.model_validate(last)
    assert ways(last, "OK")["s1-step-1"] == "end" and ways(last, "OK")["s2-step-2"] == "end"


@pytest.mark.parametrize(
    ("flow", "field"),
    [
        ({"steps": []}, "steps"), ({"steps": [step(1), step(1)]}, "steps.1.id"), ({"steps": [step(1, "No Action!")]}, "steps.0.action"),
        ({"steps": [step(1, next=[{"status": "RUN"}])]}, "steps.0.next.0.status"), ({"steps": [step(1, next=["x"])]}, "steps.0.next.0"),
        ({"steps": [step(1), step(2, next=[{"step_id": ID.format(1)}])]}, "steps.1.next.0.step_id"), ({"steps": ["x"]}, "steps.0"),
        ({"steps": [step(1, config="x")]}, "steps.0.config"), ({"steps": [{"name": "no id", "action": "noop"}]}, "steps.0.id"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_named(flow: dict[str, Any], field: str) -> None:
    with pytest.raises(BadFlow) as refused:
        translate("tenant.x", 1, flow)
    assert refused.value.field == field


BRANCHING = st.recursive(
    st.lists(st.just([]), min_size=1, max_size=3),
    lambda inner: st.lists(st.lists(inner, max_size=2), min_size=1, max_size=3),
    max_leaves=10,
)


def flow_of(shape: list[Any], counter: list[int]) -> list[dict[str, Any]]:
    found = []
    for branches in shape:
        counter[0] += 1
        entry = {"id": f"id-{counter[0]}", "name": f"n{counter[0]}", "action": "noop"}
        conditions = ("OK", "KO", "SKIP")
        entry["next"] = [
            {"status": conditions[i % 3], "code": f"c{i}", "steps": flow_of(b, counter)} for i, b in enumerate(branches)
        ]
        found.append(entry)
    return found


@given(BRANCHING)
def test_every_workflow_made_of_branches_is_one_of_ours_and_ends(shape: list[Any]) -> None:
    definition, shown = translate("tenant.x", 1, {"steps": flow_of(shape, [0])})
    workflow = Workflow.model_validate(definition)
    assert set(shown) == {s.name for s in workflow.steps}
    order = {name: n for n, name in enumerate(s.name for s in workflow.steps)}
    for status in ("OK", "SKIP", "KO"):
        for source, target in ways(definition, status, "c0").items():
            assert target in (None, "end") or order[str(target)] > order[source], "only forward: so it ends"


def event(name: str, at: float, **fields: Any) -> dict[str, Any]:
    return {"event_time": at, "event": {"event_name": name, **fields}}


def shown(name: str) -> dict[str, Any]:
    return {"step_id": f"id of {name}", "name": name, "provider": "p"}


def test_a_history_as_intents() -> None:
    history = [
        event("job_create_event", 1.0), event("job_start_event", 1.1), event("job_stage_update_event", 1.2, stage="in_progress", step="a"),
        event("job_retry_event", 2.0, code="busy", message="later"), event("job_stage_update_event", 3.0, verb="queued", reason="sent: wait"),
        event("job_stage_update_event", 4.0, verb="poke", reason="there"),
        event("job_stage_update_event", 5.0, stage="syncing", step="b", previous_step="a", step_status="OK", step_code="delivered"),
        event("job_stage_update_event", 6.0, stage="failed", previous_step="b", step_status="KO", step_code="no", step_message="why"),
        event("job_failed_event", 6.0, error_messages=["b: why [no]"]),
    ]  # fmt: skip
    found = intents("j", history, shown)
    assert [[e["status"] for e in i["events"]] for i in found] == [["RUN", "ERR", "QUEUED", "POKE", "OK"], ["RUN", "KO"]]
    assert [i["completed"] for i in found] == [True, True] and found[0]["events"][1]["code"] == "busy"
    assert [e["index"] for e in found[0]["events"]] == [0, 1, 2, 3, 4] and found[0]["events"][0][
        "at"
    ] == "1970-01-01T00:00:01.200Z"
    assert (
        faults("failed", found, []) == [{"provider": "p", "code": "no", "message": "why"}]
        and faults("completed", found, []) == []
    )
    assert status_of("failed", found) == "KO" and status_of("in_progress", found[:1]) == "OK" and status_of("queued", []) == "RUN"


def test_a_rescue_is_an_intent_of_its_own() -> None:
    history = [
        event("job_stage_update_event", 1.0, stage="in_progress", step="a"),
        event(
            "job_stage_update_event", 2.0, stage="in_progress", step="undo", previous_step="a", step_status="ERR", step_code="x"
        ),
        event("job_stage_update_event", 3.0, stage="failed", previous_step="undo", step_status="OK"),
        event("job_failed_event", 3.0, error_messages=["a: x"]),
    ]
    found = intents("j", history, shown)
    assert [[e["status"] for e in i["events"]] for i in found] == [["RUN", "KO"], ["RUN", "OK", "KO"]]
    assert found[1]["events"][-1]["message"] == "a: x" and len(faults("failed", found, [])) == 1


NAMES = st.lists(st.sampled_from(["args", "a", "", "a.b", ".", "0", "a.b.c"]), min_size=1, max_size=4).map(".".join)


@given(st.dictionaries(NAMES, st.text(min_size=1), max_size=20))
def test_every_fault_is_named_whatever_the_fields_are_called(fields: dict[str, str]) -> None:
    """Members may hold dots, so that one fault's path leads through another's (found by 122,686 generated requests)."""

    def messages(value: Any) -> list[str]:
        return [m for v in value.values() for m in messages(v)] if isinstance(value, dict) else [value]

    # Paths that differ in a dot at the end alone meet in one place; the others have each their own.
    apart = {path.strip("."): message for path, message in fields.items() if ".." not in path and path == path.strip(".")}
    said = messages(nested(apart))
    assert sorted(said) == sorted(apart.values())
    assert set(messages(nested(fields))) <= set(fields.values())


def test_a_field_and_what_is_within_it_are_both_at_fault() -> None:
    assert nested({"args": "no", "args.x": "nor this", "steps.0.id": "bad"}) == {
        "args": {"": "no", "x": "nor this"}, "steps": {"0": {"id": "bad"}},
    }  # fmt: skip
    assert nested({"args.x": "nor this", "args": "no"}) == {"args": {"x": "nor this", "": "no"}}


def rescued(*ends: tuple[str, float], **more: Any) -> list[dict[str, Any]]:
    """The history of a job whose step `a` fails, and whose rescue `b` ends so."""
    return [
        event("job_stage_update_event", 1.0, stage="in_progress", step="a"),
        event("job_stage_update_event", 2.0, stage="in_progress", step="b", previous_step="a", step_status="KO", step_code="no", step_message="why"),
        *(event("job_stage_update_event", at, stage="failed", previous_step="b", step_status=status) for status, at in ends),
        event("job_failed_event", 4.0, error_messages=["a: why [no]"], **more),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["OK", "SKIP"])
def test_after_a_rescue_the_last_event_says_the_error(end: str) -> None:
    found = intents("j", rescued((end, 3.0)), shown)
    assert [[e["status"] for e in i["events"]] for i in found] == [["RUN", "KO"], ["RUN", end, "KO"]]
    last = found[-1]["events"][-1]
    assert (last["index"], last["code"], last["message"]) == (2, "no", "a: why") and found[-1]["completed"]
    assert faults("failed", found, []) == [{"provider": "p", "code": "no", "message": "why"}], "the rescue is no fault of its own"
    assert status_of("failed", found) == "KO"


def test_a_failure_that_was_handled_is_not_the_reason() -> None:
    history = [
        *rescued(("OK", 3.0))[:-1],
        event("job_failed_event", 4.0, code="timeout_total", message="the job took too long"),
    ]
    last = intents("j", history, shown)[-1]["events"][-1]
    assert (last["status"], last["code"], last["message"]) == ("KO", "timeout_total", "the job took too long")


def test_a_rescue_that_fails_and_one_that_is_cancelled_end_once() -> None:
    found = intents("j", rescued(("KO", 3.0)), shown)
    assert [e["status"] for e in found[-1]["events"]] == ["RUN", "KO"] and len(faults("failed", found, [])) == 2
    found = intents("j", rescued(("OK", 3.0), stage="cancelled"), shown)
    assert [e["status"] for e in found[-1]["events"]] == ["RUN", "OK"]


OTHER = {"noop": 999.0}
"""Another action is served, so the workers are known."""


def test_an_intent_says_that_nobody_serves_its_action() -> None:
    begun = [event("job_stage_update_event", 1.0, stage="in_progress", step="a")]

    def told(history: list[dict[str, Any]], served: dict[str, float], action: str | None = "acme.x") -> dict[str, Any] | None:
        found = intents("j", history, shown)
        note_unserved(found, action, served, now=1000.0)
        last: dict[str, Any] = found[-1]["events"][-1]
        return last if last.get("code") == "no_worker" else None

    note = told(begun, OTHER)
    assert note is not None and (note["status"], note["index"]) == ("QUEUED", 1) and "acme.x" in note["message"]
    assert told(begun, {"acme.x": 800.0}) is not None, "its worker is gone"
    assert told(begun, {"acme.x": 950.0}) is None
    assert told(begun, {}) is None, "nothing is known of any worker"
    assert told(begun, OTHER, None) is None, "a step that waits has no action"
    assert told([*begun, event("job_retry_event", 2.0, code="busy", message="later")], OTHER) is None, "it was served"
    assert told(rescued(("OK", 3.0)), OTHER) is None


@given(st.floats(0, 4e9))
def test_the_place_of_a_page_is_never_before_its_first_row(at: float) -> None:
    assert at <= moment(place(at)) < at + 2e-6


def test_places_that_floats_round_down() -> None:
    assert all(moment(place(1_796_075_000 + n * 2.0**-22)) >= 1_796_075_000 + n * 2.0**-22 for n in range(2000))
