"""What actions need from outside, and what they answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts import StageTask, TaskStatus
from shared.objects import Stored

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a task ended: a status, for failures a code and a sentence for people, for success the result."""

    status: TaskStatus
    code: str | None = None
    message: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


Action = Callable[[StageTask, Progress], Awaitable[Answer]]


class DocumentReader(Protocol):
    """Opens documents where they can do no harm."""

    async def run(self, action: str, data: bytes, config: dict[str, Any], timeout_s: float, progress: Progress) -> dict[str, Any]:
        """Result of a sandboxed action. Raises `DocumentFault`."""
        ...


class Downloads(Protocol):
    """Brings remote files in."""

    async def fetch(self, tenant: str, url: str) -> tuple[Stored, str]:
        """Store what lies behind `url`; returns it and its declared media type. Raises `DocumentFault`."""
        ...


def ok(**result: Any) -> Answer:
    """Success."""
    return Answer(TaskStatus.OK, result=result)
