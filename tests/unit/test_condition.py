"""Conditions: the values that they see, the steps that they skip, and jobs with any mix of them still end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts import JobStage, TaskStatus
from services.job_orchestrator.core.condition import ConditionFailed, holds
from services.job_orchestrator.core.workflow import Step
from tests.unit.orchestration import Drive, workflow

FACTS: dict[str, Any] = {
    "file": {"type": "application/pdf", "name": "a.pdf", "size": 10, "metadata": {"lang": "de"}}, "tag": "invoice", "score": 0.9,
    "metadata": {"amount": 250}, "results": {"text": {"pages": 3, "kinds": ["scan"]}}, "job": {"files": 2, "done": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('tag == "invoice" && score > 0.8', True), ('file.type.startsWith("image/")', False), ("metadata.amount >= 250", True),
        ('results.text.pages > 1 || "scan" in results.text.kinds', True), ("has(results.ocr)", False), ("job.files == 2", True),
        ('file.metadata.lang in ["de", "at"]', True), ('results.text.kinds.exists(k, k == "scan")', True),
    ],
)  # fmt: skip
def test_what_a_condition_sees(expression: str, expected: bool) -> None:
    assert holds(expression, FACTS) is expected


@pytest.mark.parametrize(
    ("expression", "reason"), [("results.ocr.pages > 1", "has"), ("1 + 1", "int"), ("nobody", "nobody"), ("tag > 3", "tag")]
)
def test_a_condition_without_a_boolean_result_gives_the_reason(expression: str, reason: str) -> None:
    with pytest.raises(ConditionFailed, match=reason):
        holds(expression, FACTS)


@pytest.mark.parametrize("expression", ["tag ==", "x" * 501, "[1].all(a, [1].all(b, [1].all(c, true)))", ""])
def test_an_invalid_condition_is_refused_when_the_workflow_is_read(expression: str) -> None:
    with pytest.raises(ValidationError, match="when"):
        Step(name="s", action="a", when=expression)


def test_a_skipped_step_is_visible_to_the_next_condition() -> None:
    drive = Drive(workflow({}, {"when": "has(results.s0.scan) && results.s0.scan"}, {"when": "file.size == null"}))
    drive.feed(drive.start)
    drive.report(drive.tasks[0], result={"scan": False})
    assert [t.step for t in drive.tasks] == ["s0", "s2"]
    assert drive.tasks[1].inputs["s1"] == {"skipped": "has(results.s0.scan) && results.s0.scan"}
    drive.report(drive.tasks[1])
    assert drive.job is not None and drive.job.stage is JobStage.COMPLETED and drive.job.done == 1


def test_a_failing_condition_fails_its_file_with_the_reason() -> None:
    drive = Drive(workflow({}, {"when": "results.s0.nothing > 1"}), files=2)
    drive.feed(drive.start)
    drive.report(drive.tasks[0], result={"nothing": 2})
    drive.report(drive.tasks[1], result={})
    drive.report(drive.tasks[2])
    assert drive.job is not None and drive.job.stage is JobStage.COMPLETED
    assert "there is no 'nothing'" in drive.job.errors[0] and drive.job.failed == 1


@given(st.lists(st.tuples(st.sampled_from(["file", "job"]), st.sampled_from(["true", "false", 'file.name != "file0.pdf"', "1"])), min_size=1, max_size=6),
       st.integers(1, 3), st.sampled_from(["best_effort", "all"]))  # fmt: skip
def test_any_mix_of_conditions_ends(steps: list[tuple[str, str]], files: int, join: str) -> None:
    """`Drive` checks the invariants after each decision. This test checks that the job ends and that only wanted steps ran."""
    flow = workflow(*({"scope": scope, "when": when} for scope, when in steps), join=join)
    drive = Drive(flow, files=files)
    drive.feed(drive.start)
    at = 0
    while at < len(drive.tasks):
        drive.report(drive.tasks[at], TaskStatus.OK)
        at += 1
    job = drive.job
    assert job is not None and job.ended
    ran = {(t.step, t.file_id) for t in drive.tasks}
    assert len(ran) == len(drive.tasks), "no step ran twice"
    for index, (scope, when) in enumerate(steps):
        here = {file for step, file in ran if step == f"s{index}"}
        assert when not in ("false", "1") or not here
        if scope == "file":
            assert not (when.startswith("file.name") and "f0" in here)
    broken = any(when == "1" or (scope == "job" and when.startswith("file")) for scope, when in steps)
    if not broken:
        assert job.stage is JobStage.COMPLETED
        assert all(
            {f for s, f in ran if s == f"s{i}"} == {f"f{n}" for n in range(files)}
            for i, s in enumerate(steps)
            if s == ("file", "true")
        )
