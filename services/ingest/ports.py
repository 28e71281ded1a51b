"""What the door needs from outside."""

from __future__ import annotations

from typing import Any, Protocol

from contracts import Message


class Publisher(Protocol):
    """Hands messages to Kafka."""

    async def publish(self, topic: str, message: Message, trace: str | None) -> None:
        """Returns when Kafka has it durably. Raises `Retry` when that is not known within the bound."""
        ...


class Decisions(Protocol):
    """Answers to commands, as they arrive on the event streams."""

    async def decision(self, command_id: str, timeout_s: float) -> dict[str, Any] | None:
        """The answer to a command, or None when none came in time."""
        ...
