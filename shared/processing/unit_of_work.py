"""The unit of work a handler sees: the connection of the batch's one transaction, and a place for its outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from sqlalchemy import Connection

from contracts import Message, to_record
from contracts.cloudevents import Headers
from shared.errors import DeadLetter
from shared.kafka.outgoing import Outgoing
from shared.telemetry.tracing import Telemetry

MAX_VALUE_BYTES = 1_040_000
"""Largest value of a record: Kafka's 1 MiB less what key and headers take."""


class Savepoint:
    """Around outputs that belong together (`Unit.together`)."""

    __slots__ = ("before", "outgoing")

    def __init__(self, outgoing: list[Outgoing]) -> None:
        self.outgoing = outgoing
        self.before = len(outgoing)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            del self.outgoing[self.before :]


@dataclass(slots=True)
class Unit:
    """Handed to handlers inside the transaction. Nothing that a handler does is visible before all of it is."""

    connection: Connection
    now: float
    source: str
    telemetry: Telemetry
    outgoing: list[Outgoing] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Called in the event loop once the transaction is durable and what it decided is published; not at all if it fails."""

    def savepoint(self) -> Savepoint:
        """Outputs that belong together: if one is refused, none of them is published."""
        return Savepoint(self.outgoing)

    def emit(self, topic: str, message: Message, trace: str | None, command: bool = False, traced: bool = True) -> None:
        """Publish `message` after the commit; raises `Park` when it is too large for a record. `trace` is the context it descends from; commands leave after facts."""
        # What sums up several causes belongs to none of their traces, and a root span of its own would split the job's tree.
        carried = self.telemetry.create_span(message, topic, trace) if traced else None
        extra: Headers = (("traceparent", carried.encode()),) if carried else ()
        record = to_record(message, self.source, extra)
        if len(record.value) > MAX_VALUE_BYTES:
            raise DeadLetter(
                "too_large",
                f"the {type(message).__name__} that follows has {len(record.value)} bytes; the limit is {MAX_VALUE_BYTES}",
            )
        self.outgoing.append(Outgoing(topic, record.key, record.value, record.headers, not command))

    def emit_tombstone(self, topic: str, key: str) -> None:
        """Let a compacted topic forget a key, by a tombstone: a record of the key without a value."""
        self.outgoing.append(Outgoing(topic, key.encode(), b"", ()))
