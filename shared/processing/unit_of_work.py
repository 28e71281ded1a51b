"""The unit of work of one transaction: its database connection and the messages to publish after the commit."""

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
"""Largest value of a record: Kafka's 1 MiB without key and headers."""


class Savepoint:
    """Context manager around outputs that belong together (`Unit.savepoint`)."""

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
    """Passed to handlers inside the transaction; its writes and outputs take effect together or not at all.

    `now` is the transaction's time in Unix seconds, `source` the CloudEvents source of its messages.
    """

    connection: Connection
    now: float
    source: str
    telemetry: Telemetry
    outgoing: list[Outgoing] = field(default_factory=list)
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Called in the event loop after the commit and after `outgoing` is published; never if the transaction fails."""

    def savepoint(self) -> Savepoint:
        """Group the outputs of a `with` block: if it raises, none of them is published."""
        return Savepoint(self.outgoing)

    def emit(self, topic: str, message: Message, trace: str | None, command: bool = False, traced: bool = True) -> None:
        """Publish `message` on `topic` after the commit. Raises `DeadLetter` when it is too large for a record.

        `trace` is the `traceparent` of its cause. A `command` is sent after the unit's facts. A message with several causes is not
        `traced`: it belongs to none of their traces, and a root span of its own would split the job's trace.
        """
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
        """Delete `key` from a compacted topic: publish a record without a value after the commit."""
        self.outgoing.append(Outgoing(topic, key.encode(), b"", ()))
