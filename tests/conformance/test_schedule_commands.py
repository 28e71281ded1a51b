"""Schedules set by command: what would fail every job, or fire at other times than meant, is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from contracts import CommandDecided, JobRequest, ScheduleState, SetSchedule, Tenancy
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.publishing.schedules import set_schedule
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener

KNOWN = Workflow.model_validate({"name": "nightly", "version": 1, "steps": [{"name": "s", "action": "noop", "scope": "job"}]})


def command(**changes: Any) -> SetSchedule:
    given: dict[str, Any] = {"cron": "0 1 * * *", "workflow": "nightly", **changes}
    job = JobRequest(workflow=given.pop("workflow"), metadata=given.pop("metadata", None))
    return SetSchedule(
        command_id=clock.new_root(), owner=Tenancy(tenant_id="a"), issued_at=clock.now(), schedule_id="s", job=job, **given
    )


async def said(opened: Opener, message: SetSchedule) -> tuple[Sequence[Any], CommandDecided]:
    """The states that the command publishes, and its answer."""
    store = await opened("job_orchestrator")

    def run(connection: Any) -> list[bytes]:
        unit = Unit(connection, 1_000.0, "/t", Telemetry("t", "i"))
        workflow = KNOWN if message.job.workflow == KNOWN.name else None
        set_schedule(unit, SqlSteeringStore(connection), workflow, SetSchedule.read(message.to_json()), None)
        return [out.value for out in unit.outgoing]

    *states, answer = await store.transact(run)
    return [ScheduleState.read(s) for s in states], CommandDecided.read(answer)


@pytest.mark.parametrize("cron", ["0 1 * * *", "@daily", " @Hourly ", "0  1 * *  MON"])
async def test_five_fields_or_a_macro_are_taken(opened: Opener, cron: str) -> None:
    [state], answer = await said(opened, command(cron=cron, metadata={"a": 1}))
    assert answer.ok and state.cron == cron and state.next_at is not None


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"cron": "* * * * * *"}, "invalid_cron", "five fields"),
        ({"cron": "0 0 1 1 * 2027 *"}, "invalid_cron", "five fields"),
        ({"cron": "@reboot"}, "invalid_cron", "@daily"),
        ({"cron": "@"}, "invalid_cron", "five fields"),
        ({"cron": " "}, "invalid_cron", "five fields"),
        ({"workflow": "no-such"}, "invalid_workflow", "no-such"),
        ({"metadata": ["a"]}, "invalid_metadata", "object"),
        ({"metadata": "prose"}, "invalid_metadata", "object"),
        ({"urls": ("https://example.com/" + "x" * 5000,)}, "invalid_urls", "urls"),
    ],
)
async def test_anything_else_is_refused_with_its_code(opened: Opener, changes: dict[str, Any], code: str, word: str) -> None:
    states, answer = await said(opened, command(**changes))
    assert not states and not answer.ok
    assert answer.code == code and word in (answer.message or "")
