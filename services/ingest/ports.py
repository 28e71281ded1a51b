"""What the gateway needs from outside: a way to publish commands, and their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from contracts import Message

T = TypeVar("T")


class Publisher(Protocol):
    """Publishes messages to Kafka."""

    async def publish_command(self, topic: str, message: Message, trace: str | None) -> None:
        """Return once Kafka has stored the message durably. `trace` is its parent (W3C traceparent). Raises `Retry` after a bounded wait."""
        ...


class Wait(AbstractContextManager["Wait"], Protocol):
    """What one request waits for. It begins with the `with` block, so enter it before the command is published."""

    def on_command(self, command_id: str, read: Callable[[dict[str, Any]], Any] = ...) -> None:
        """The answer to a command is a result, as `read` returns it."""
        ...

    def on_job(self, job_id: str, read: Callable[[dict[str, Any] | None], Any]) -> None:
        """What `read` makes of a job's record is a result, unless it is None. `read` gets None while there is no record."""
        ...

    async def result(self, timeout_s: float, patient: bool = False, gone: Callable[[], Awaitable[bool]] | None = None) -> Any:
        """The first result that is not None; None after `timeout_s` without an answer to any wait of this kind.

        `patient`: the wait is optional. It lasts `timeout_s` at most, and ends when this process shuts down, or the caller is `gone`.
        """
        ...


class Decisions(Protocol):
    """Answers to commands, as they arrive in the read model."""

    def wait(self, kind: str, repeated: bool = False) -> Wait:
        """A new wait. `kind` names who answers: a wait goes on while others of its kind are answered.

        `repeated`: the command may have been sent before, so its answer may be in the read model already.
        """
        ...

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
