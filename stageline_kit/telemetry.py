"""OpenTelemetry, if its API is installed: a `process` span per record, in the trace of the record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

propagate: Any = None
trace: Any = None
metrics: Any = None
with suppress(ImportError):  # without the `telemetry` extra no span is made, and contexts are passed on
    from opentelemetry import metrics, propagate, trace

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
Headers = Iterable[tuple[str, bytes | None]]


def traceparent(headers: Headers) -> str | None:
    """The `traceparent` header of a record, or None."""
    return next((v.decode("ascii", "ignore") for name, v in headers if name == "traceparent" and v), None)


@contextmanager
def processing(topic: str, group: str | None, headers: Headers, **attributes: Any) -> Iterator[str | None]:
    """A `process <topic>` span (CONSUMER) by the messaging conventions 1.44. Yields the `traceparent` to pass on."""
    carried = traceparent(headers)
    if trace is None:
        yield carried
        return
    parent = propagate.extract({"traceparent": carried}) if carried else None
    tracer = trace.get_tracer("stageline_kit", schema_url=SCHEMA_URL)
    found = {
        "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": topic, **({"messaging.consumer.group.name": group} if group else {}), **attributes,
    }  # fmt: skip
    with tracer.start_as_current_span(f"process {topic}", context=parent, kind=trace.SpanKind.CONSUMER, attributes=found):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield carrier.get("traceparent", carried)


def count(name: str, **attributes: Any) -> None:
    """Add 1 to a counter of the program's meter provider, if OpenTelemetry's API is installed."""
    if metrics is not None:
        metrics.get_meter("stageline_kit", schema_url=SCHEMA_URL).create_counter(name, "1").add(1, attributes)
