"""Adds the gateway's address to tasks of workers outside: with it they read files and store outputs without a key."""

from __future__ import annotations

from pydantic import AnyHttpUrl

from contracts import StageTask
from contracts.topics import BUILT_IN_ACTIONS
from services.job_orchestrator.core.job import Job
from shared.task_grants import TaskGrant, TaskSeal

SPARE_S = 60
"""Seconds that an address outlives its attempt, for the last report on its way."""
OWN = frozenset(BUILT_IN_ACTIONS)
"""Actions of `stage_worker`, which has the object store itself."""


class TaskAddresses:
    """`gateway` is the gateway's public address. Without it, or without a seal, tasks have no address."""

    def __init__(self, gateway: AnyHttpUrl | None, seal: TaskSeal | None) -> None:
        self._base = str(gateway).rstrip("/") if gateway is not None else None
        self._seal = seal

    def with_address(self, task: StageTask, job: Job) -> StageTask:
        """`task` with its address, which holds as long as this attempt can last: in the queue and with a worker."""
        if self._seal is None or self._base is None or task.action in OWN:
            return task
        queued_s = next((step.timeouts.queued_s for step in job.workflow.all_steps if step.name == task.step), 0.0)
        ends_at = int(task.issued_at.timestamp() + queued_s + task.timeout_s) + SPARE_S
        grant = TaskGrant(task.tenant_id, task.job_id, task.file_id, task.lease, ends_at)
        return task.model_copy(update={"objects_url": f"{self._base}/v1/tasks/{self._seal.token(grant)}"})
