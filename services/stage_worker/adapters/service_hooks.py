"""What the service adds to the kit's worker: its spans, its metrics and its crash points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from contracts import StageReport, StageTask
from contracts.topics import STAGE_REPORTS_TOPIC
from shared import crashpoints
from shared.processing.records import Inbound
from shared.telemetry.tracing import Telemetry
from stageline_kit.hooks import Delivery, WorkerHooks

QUICK_ACTIONS = frozenset({"noop"})
"""Actions that return without waiting, when they have no configuration."""


class ServiceHooks(WorkerHooks):
    """Hooks of the built-in worker. `source` of each delivery is its `Inbound`."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    @contextmanager
    def task_span(self, delivery: Delivery) -> Iterator[str | None]:
        """The record's `process` span, opened when the batch was decoded, ends with the task."""
        item: Inbound = delivery.source
        try:
            yield item.trace
        finally:
            if item.span is not None:
                item.span.end()

    def answers_at_once(self, task: StageTask) -> bool:
        """Quick actions need no slot."""
        return task.action in QUICK_ACTIONS and not task.config

    def report_context(self, report: StageReport, traceparent: str | None) -> str | None:
        """Each report gets a `create` span."""
        return self.telemetry.create_span(report, STAGE_REPORTS_TOPIC.name, traceparent)

    def task_finished(self, delivery: Delivery, report: StageReport) -> None:
        """Record how long the attempt took."""
        seconds = (report.duration_ms or 0.0) / 1000
        self.telemetry.record("pipeline.job.stage.duration", seconds, step=report.step, status=report.status.value)

    def before_publish(self) -> None:
        """A crash here loses reports that Kafka does not have; their tasks are redelivered."""
        crashpoints.reach("stage_worker", "before_report")

    def after_publish(self) -> None:
        """A crash here repeats reports that Kafka has; receivers drop repeats by id."""
        crashpoints.reach("stage_worker", "after_publish")
