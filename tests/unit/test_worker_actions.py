"""Actions of the built-in worker as the kit sees them: results, and faults as outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import StageReport
from services.stage_worker.actions import Actions, serve_actions
from services.stage_worker.bench_actions import end_as_told
from services.stage_worker.core.document_fault import DocumentFault
from shared.objects.access import ObjectMissing
from stageline_kit import Task, Worker
from stageline_kit.testing import run_action


async def end_of(action: Any, **more: Any) -> StageReport:
    """The last report of one task."""
    worker = Worker("nowhere:1", "w-1")
    worker.actions.update(serve_actions({"acme.work": action}, ()))
    return (await run_action(worker, "acme.work", **more))[-1]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (DocumentFault("damaged", "It is broken."), ("KO", "damaged", "It is broken.")),
        (DocumentFault("source_unavailable", "It is away.", retriable=True), ("ERR", "source_unavailable", "It is away.")),
        (ObjectMissing("object_missing", "It is gone."), ("KO", "object_missing", "It is gone.")),
        (RuntimeError("x" * 10_000), ("ERR", "worker_error", "RuntimeError: " + "x" * 500)),
    ],
)
async def test_faults_are_outcomes(error: Exception, found: tuple[str, ...]) -> None:
    async def action(task: Task) -> None:
        raise error

    report = await end_of(action)
    assert (report.status.value, report.code, report.message) == found


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, ("OK", None, None)),
        ({"sleep_s": 0.01}, ("OK", None, None)),
        ({"fail": "KO"}, ("KO", "asked_to_fail", None)),
        ({"fail": "ERR"}, ("ERR", "asked_to_fail", None)),
        ({"fail": "SKIP"}, ("SKIP", "asked_to_fail", None)),
        ({"fail": "QUEUED"}, ("QUEUED", "asked_to_fail", 5.0)),
        ({"fail": "maybe"}, ("ERR", "worker_error", None)),
    ],
)
async def test_the_action_for_tests_ends_as_its_configuration_says(config: dict[str, Any], found: tuple[Any, ...]) -> None:
    report = await end_of(end_as_told, config=config)
    assert (report.status.value, report.code, report.retry_in) == found


async def test_noop_takes_no_time_and_does_not_fail() -> None:
    actions: Any = Actions.__new__(Actions)
    assert (await end_of(actions.noop, config={"sleep_s": 60, "fail": "KO"})).status.value == "OK"


def test_a_worker_serves_the_actions_of_its_settings() -> None:
    table: Any = {"a": None, "b": None}
    assert set(serve_actions(table, ())) == {"a", "b"} and set(serve_actions(table, ("b", "c"))) == {"b"}
