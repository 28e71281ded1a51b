"""Records on their way in: decoded, guarded while they are handled, or undecodable."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from opentelemetry.trace import Span
from sqlalchemy.exc import OperationalError

from contracts import Message
from contracts.cloudevents import Headers
from shared.errors import DeadLetter, Outcome
from shared.telemetry.logs import log_fields
from shared.telemetry.trace_context import traceparent_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Inbound:
    """One decoded record, with where it came from and the context it carries."""

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

    @property
    def trace(self) -> str | None:
        """What outputs of this message descend from."""
        return traceparent_of(self.span, self.traceparent)

    def guard(self) -> Guard:
        """Handle one message: `Park` and faults of our own code park it alone; `Retry` and `Stop` stop the batch."""
        return Guard(self)


class Guard:
    """Around the handling of one message (`Inbound.guard`). A class: it is around every record, and a generator's context costs more."""

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
        if isinstance(error, (Outcome, OperationalError)) or getattr(getattr(error, "orig", None), "sqlstate", None) is not None:
            # With a state, PostgreSQL has aborted the whole transaction (a deadlock, say), which is not this record's fault.
            return False
        item = self.item
        where = {"topic": item.topic, "partition": item.partition, "offset": item.offset, "event.id": item.message.message_id}
        extra = log_fields(item.trace, getattr(item.message, "job_id", None), **where)
        log.error("handler failed on one record", exc_info=error, extra=extra)
        item.dead_letter = DeadLetter("handler_error", f"{type(error).__name__}: {error}")
        return True


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A record nobody can read, and why."""

    record: Any
    code: str
    reason: str
