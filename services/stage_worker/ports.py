"""What actions need from outside, and what they answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts import StageTask, TaskStatus
from shared.objects.object_store import StoredObject

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a task ended: a status, for failures a code and a sentence for people, for success the result."""

    status: TaskStatus
    code: str | None = None
    message: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    retry_in: float | None = None
    """For QUEUED: ask again in so many seconds."""


Action = Callable[[StageTask, Progress], Awaitable[Answer]]


class DocumentReader(Protocol):
    """Opens documents where they can do no harm."""

    async def run(
        self, action: str, data: bytes | Sequence[bytes], config: dict[str, Any], timeout_s: float, progress: Progress
    ) -> dict[str, Any]:
        """Result of a sandboxed action on a document, or on several; a file that it wrote is there as bytes under `output`,
        several under `outputs`.

        Raises `DocumentFault`.
        """
        ...


class Calls(Protocol):
    """Tells a URL something."""

    async def call(self, task: StageTask, progress: Progress) -> Answer:
        """POST the step's payload to its `config.url`. Raises `DocumentFault` for an address that is not allowed."""
        ...


class Downloads(Protocol):
    """Brings remote files in."""

    async def fetch(self, tenant: str, url: str) -> tuple[StoredObject, str]:
        """Store what lies behind `url`; returns it and its declared media type. Raises `DocumentFault`."""
        ...


def ok(**result: Any) -> Answer:
    """Success."""
    return Answer(TaskStatus.OK, result=result)
