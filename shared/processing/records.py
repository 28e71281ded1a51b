"""Received records: decoded, guarded while they are handled, or undecodable."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from opentelemetry.trace import Span

from contracts import Message
from contracts.cloudevents import Headers
from shared.database.faults import concerns_transaction
from shared.errors import DeadLetter, Outcome
from shared.telemetry.logs import log_fields
from shared.telemetry.trace_context import traceparent_of

log = logging.getLogger(__name__)
HANDLER_ERROR = "handler_error"
"""Code of dead letters that a fault of our own code made."""


@dataclass(slots=True)
class Inbound:
    """One decoded record with its place in the topic, its bytes and its trace context. `timestamp` in Unix seconds."""

    message: Message
    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes
    headers: Headers
    traceparent: str | None = None
    span: Span | None = None
    dead_letter: Outcome | None = None
    """Set when the record cannot be handled: the reason for its dead letter."""

    @property
    def trace(self) -> str | None:
        """The `traceparent` of messages that follow from this one."""
        return traceparent_of(self.span, self.traceparent)

    def guard(self) -> Guard:
        """Context manager around the handling of this message.

        `DeadLetter` and faults of our own code dead-letter this message alone; `Retry`, `Stop` and database faults pass.
        """
        return Guard(self)


class Guard:
    """Result of `Inbound.guard`. A class, because it wraps every record and a generator's context manager costs more."""

    __slots__ = ("item",)

    def __init__(self, item: Inbound) -> None:
        self.item = item

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        if isinstance(error, DeadLetter):
            self.item.dead_letter = error
            return True
        if concerns_transaction(error):
            return False
        self.item.dead_letter = fault_of(self.item, error)
        return True


def fault_of(item: Inbound, error: Exception) -> DeadLetter:
    """Log that our own code failed on a record; returns the reason for its dead letter."""
    where = {"topic": item.topic, "partition": item.partition, "offset": item.offset, "event.id": item.message.message_id}
    extra = log_fields(item.trace, getattr(item.message, "job_id", None), **where)
    log.error("handler failed on one record", exc_info=error, extra=extra)
    return DeadLetter(HANDLER_ERROR, f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A record that cannot be decoded: a stable code and the reason."""

    record: Any
    code: str
    reason: str
