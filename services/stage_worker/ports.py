"""What actions need from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from shared.objects.object_store import StoredObject
from stageline_kit import Task

Progress = Callable[[int, int | None], None]
"""Units done, and units in all if known."""
Result = dict[str, Any] | None
"""Result of a step: a JSON object, or None for an empty one."""
Action = Callable[[Task], Awaitable[Result]]
"""Raises an outcome of `stageline_kit`, or `DocumentFault`."""


class DocumentReader(Protocol):
    """Opens documents where a hostile one can do no harm."""

    async def run_action(
        self, action: str, data: bytes | Sequence[bytes], config: dict[str, Any], timeout_s: float, progress: Progress
    ) -> dict[str, Any]:
        """Run a sandboxed action on one document or on several, and return its result.

        A file that the action wrote is in the result as bytes under `output`, several under `outputs`.
        Raises `DocumentFault`.
        """
        ...


class Secrets(Protocol):
    """Opens secrets of tenants."""

    async def reveal(self, tenant: str, reference: str, url: str) -> str:
        """The value of `secret:NAME` for a request to `url`.

        Raises `DocumentFault` for an unknown secret, for one that may not be sent to that address, and without a key.
        """
        ...


class WebhookCalls(Protocol):
    """Sends the payload of a step to a URL."""

    async def call_url(self, task: Task) -> None:
        """POST the step's payload to its `config.url`.

        Raises an outcome for an answer that is not success, `DocumentFault` for an address that is not allowed.
        """
        ...


class Downloads(Protocol):
    """Fetches remote files."""

    async def fetch_file(self, tenant: str, job_id: str, url: str) -> tuple[StoredObject, str]:
        """Store the content of `url`. Returns the object and its declared media type. Raises `DocumentFault`."""
        ...
