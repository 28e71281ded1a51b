"""Extension points of a worker: what a program may add to the handling of tasks and reports."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from contracts import StageReport, StageTask
from stageline_kit.task import Task
from stageline_kit.telemetry import Headers, count, processing
from stageline_kit.watermark import Position


@dataclass(slots=True)
class Delivery:
    """One delivery of a task by Kafka. The same task may be delivered more than once."""

    task: StageTask
    position: Position
    headers: Headers = ()
    source: Any = None
    """Free for the program that makes the delivery, e.g. its own decoded record. Hooks receive it."""

    @property
    def topic(self) -> str:
        """Topic that the task came from."""
        return str(self.position[0].topic)


class WorkerHooks:
    """Extension points of a worker. Subclass it, override what you need, and pass an instance to the worker.

    Every hook runs in the event loop, so it must not block. An exception of a hook ends the task without a report.
    """

    def task_span(self, delivery: Delivery) -> AbstractContextManager[str | None]:
        """Context manager around the run of a task. It yields the `traceparent` that the task's reports descend from.

        Default: a `process` span, if OpenTelemetry's API is installed.
        """
        task = delivery.task
        return processing(delivery.topic, None, delivery.headers, **{"job.id": task.job_id, "attempt": task.attempt})

    def answers_at_once(self, task: StageTask) -> bool:
        """True for a task whose action returns without waiting. It takes no slot and sends no heartbeat. Default: False."""
        return False

    def report_context(self, report: StageReport, traceparent: str | None) -> str | None:
        """The `traceparent` that a report carries. `traceparent` is that of the task. Default: the same."""
        return traceparent

    def task_finished(self, delivery: Delivery, report: StageReport) -> None:
        """Called once when a task has ended with `report`, before that is sent. For metrics; `duration_ms` is in the report."""

    def function_hung(self, task: Task) -> None:
        """Called when a plain function still runs, seconds after its task has ended. Default: count it, if OpenTelemetry is installed."""
        count("stageline.worker.hung_functions", action=task.action)

    def before_publish(self) -> None:
        """Called before reports are sent to Kafka."""

    def after_publish(self) -> None:
        """Called when Kafka has acknowledged the reports, before their offsets may be committed."""
