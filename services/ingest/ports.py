"""What the gateway needs from outside: a way to publish commands, and their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from contracts import Message

T = TypeVar("T")


class Publisher(Protocol):
    """Publishes messages to Kafka."""

    async def publish_command(self, topic: str, message: Message, trace: str | None) -> None:
        """Return once Kafka has stored the message durably. `trace` is its parent (W3C traceparent). Raises `Retry` after a bounded wait."""
        ...


class Decisions(Protocol):
    """Answers to commands, as they arrive in the read model."""

    async def decision(self, command_id: str, timeout_s: float) -> dict[str, Any] | None:
        """The answer to a command; None when none arrived in time."""
        ...

    async def wait_until(self, look: Callable[[Connection], T | None], timeout_s: float, patient: bool = False) -> T | None:
        """The first result of `look(connection)` that is not None; None after `timeout_s`.

        `patient`: the wait is optional, so it ends when this process shuts down.
        """
        ...

    def wake(self) -> None:
        """Repeat every waiting `look`: this process changed the read model."""
        ...
