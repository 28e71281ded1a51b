"""OpenTelemetry spans and metrics by the messaging conventions 1.44 (FastStream's middleware emits names that were retired).

One trace per job while it moves promptly. A message gets its context when it enters the outbox (`create` span). The context is
stored in the row, travels in the `traceparent` header and is the parent of the receiver's `process` span. A record older than
`PROMPT_S` starts a new trace that is linked to the old one, so that no trace spans hours. Without an OTLP endpoint no span is
recorded, and the incoming context is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from contracts import Message
from shared.telemetry.metric_names import BUCKETS, SCHEMA_URL, Counter, Histogram
from shared.telemetry.trace_context import as_parent, format_traceparent, parse_traceparent
from shared.version import VERSION

PROMPT_S = 60.0
"""A younger record continues its producer's trace; an older one is linked to it."""


class Telemetry:
    """Spans and metrics of one process. `endpoint` is an OTLP/HTTP base URL; None turns recording off."""

    def __init__(self, service: str, instance: str, endpoint: str | None = None) -> None:
        self.service = service
        self.enabled = bool(endpoint)
        resource = Resource.create(
            {"service.name": f"stageline-{service}", "service.instance.id": instance, "service.version": VERSION}
        )
        self._tracers: TracerProvider | None = None
        self._meters: MeterProvider | None = None
        if endpoint:
            self._tracers = TracerProvider(resource=resource)
            exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
            self._tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500, max_queue_size=20_000))
            reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{endpoint.rstrip('/')}/v1/metrics", timeout=5))
            self._meters = MeterProvider([reader], resource=resource)
        self.tracer = (self._tracers or trace.NoOpTracerProvider()).get_tracer("stageline", VERSION, schema_url=SCHEMA_URL)
        self._meter = (self._meters or metrics.NoOpMeterProvider()).get_meter("stageline", VERSION, schema_url=SCHEMA_URL)
        self._counters: dict[str, metrics.Counter] = {}
        self._histograms: dict[str, metrics.Histogram] = {}

    @classmethod
    def from_environment(cls, service: str, instance: str) -> Telemetry:
        """Recording when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, as in the OpenTelemetry specification."""
        return cls(service, instance, os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None)

    def count(self, name: Counter, amount: int = 1, **attributes: str | int) -> None:
        """Add to a counter."""
        if self.enabled and amount:
            if name not in self._counters:
                self._counters[name] = self._meter.create_counter(name)
            self._counters[name].add(amount, attributes)

    def record(self, name: Histogram, value: float, **attributes: str | int) -> None:
        """Record one value of a histogram."""
        if self.enabled:
            if name not in self._histograms:
                self._histograms[name] = self._meter.create_histogram(
                    name, explicit_bucket_boundaries_advisory=None if name.endswith("records") else BUCKETS
                )
            self._histograms[name].record(value, attributes)

    def create_span(self, message: Message, topic: str, parent: str | None) -> str | None:
        """Record a `create <topic>` span and return its `traceparent` for the message; `parent` when nothing is recorded."""
        if not self.enabled:
            return parent
        context = parse_traceparent(parent)
        span = self.tracer.start_span(
            f"create {topic}",
            context=as_parent(context),
            kind=SpanKind.PRODUCER,
            attributes=message_attributes("create", "create", topic, message),
        )
        span.end()
        return format_traceparent(span.get_span_context())

    def start_process_span(
        self, topic: str, group: str, message: Message, parent: str | None, age_s: float, where: Mapping[str, Any]
    ) -> Span | None:
        """Start a `process <topic>` span; the caller ends it. None when nothing is recorded.

        It is a child of `parent`, or for a record older than `PROMPT_S` a new root that is linked to it. `age_s` is the record's
        age in seconds, `where` further attributes.
        """
        if not self.enabled:
            return None
        context = parse_traceparent(parent)
        attributes = message_attributes("process", "process", topic, message)
        attributes["messaging.consumer.group.name"] = group
        attributes.update(where)
        return self.tracer.start_span(
            f"process {topic}",
            context=as_parent(context if age_s <= PROMPT_S else None),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(context)] if context else [],
        )

    @contextmanager
    def batch_span(
        self, operation: str, type_: str, destination: str, contexts: Sequence[str | None], **more: Any
    ) -> Iterator[None]:
        """A CLIENT span over a batch (`send`, `poll`, `commit`), linked to the first 128 of the messages' `contexts`."""
        if not self.enabled:
            yield
            return
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": operation,
            "messaging.operation.type": type_,
            "messaging.destination.name": destination,
            "messaging.batch.message_count": len(contexts),
            **more,
        }
        links = [Link(c) for c in map(parse_traceparent, contexts[:128]) if c]
        with self.tracer.start_as_current_span(
            f"{operation} {destination}", context=trace.set_span_in_context(trace.INVALID_SPAN), kind=SpanKind.CLIENT,
            attributes=attributes, links=links,
        ):  # fmt: skip
            yield

    def shutdown(self) -> None:
        """Export pending spans and metrics, within the exporters' timeouts."""
        if self._tracers:
            self._tracers.shutdown()
        if self._meters:
            self._meters.shutdown(timeout_millis=3000)


def message_attributes(operation: str, type_: str, topic: str, message: Message) -> dict[str, Any]:
    """Attributes of a single message's span by the messaging conventions, with tenant, job and attempt."""
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
        "messaging.destination.name": topic,
        "messaging.message.id": message.message_id,
        "messaging.kafka.message.key": message.key,
        "cloudevents.event_id": message.message_id,
        "cloudevents.event_type": message.TYPE,
        "tenant.id": message.tenant,
    }
    job_id = getattr(message, "job_id", None) or getattr(getattr(message, "event", None), "job_id", None)
    if job_id:
        attributes["job.id"] = attributes["messaging.message.conversation_id"] = job_id
    attempt = getattr(message, "attempt", None)
    if attempt is not None:
        attributes["attempt"] = attempt
    return attributes


def mark_failed(span: Span | None, error: BaseException | str) -> None:
    """Mark a span as failed; `error.type` is the exception's class or the given code."""
    if span is not None:
        span.set_attribute("error.type", error if isinstance(error, str) else type(error).__name__)
        span.set_status(StatusCode.ERROR)
