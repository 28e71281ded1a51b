"""W3C Trace Context (`traceparent`, https://www.w3.org/TR/trace-context/), read and written by OpenTelemetry's propagator."""

from __future__ import annotations

import random
from functools import lru_cache

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
LONGEST = 128
"""Characters of a header worth parsing. The propagator logs a line for each value over its own limit."""


@lru_cache(maxsize=4096)
def parse_traceparent(value: str | None) -> SpanContext | None:
    """The context in a `traceparent`; None when it is absent or malformed. Cached: all messages of a job carry the same few."""
    if not value or len(value) > LONGEST:
        return None
    # White space around a header's value is not part of it (RFC 9110, 5.5).
    extracted = _PROPAGATOR.extract({"traceparent": value.strip()}, Context())
    context = trace.get_current_span(extracted).get_span_context()
    return context if context.is_valid else None


def format_traceparent(context: SpanContext) -> str:
    """The `traceparent` of a valid context."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, as_parent(context))
    return carrier["traceparent"]


@lru_cache(maxsize=4096)
def clean_traceparent(value: str | None) -> str | None:
    """The same context in its canonical form, safe to pass on as a header; None when it is absent or malformed."""
    context = parse_traceparent(value)
    return format_traceparent(context) if context else None


def new_traceparent() -> str:
    """A new root context that is not sampled, for a request that brought none."""
    return f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-00"


def as_parent(context: SpanContext | None) -> Context:
    """An OpenTelemetry context in which `context` is the parent span; a root context when None."""
    span = trace.NonRecordingSpan(context) if context else trace.INVALID_SPAN
    return trace.set_span_in_context(span, Context())


def traceparent_of(span: Span | None, incoming: str | None) -> str | None:
    """The `traceparent` for what a handler sends: the context of its own span, or without a span the incoming one."""
    return incoming if span is None else format_traceparent(span.get_span_context())
