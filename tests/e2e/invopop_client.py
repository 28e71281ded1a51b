"""A client of Invopop, written from its documentation (reference/vendor-apis.md §2): bearer token, JSON, errors with a key."""

from __future__ import annotations

from typing import Any

import aiohttp
import uuid_utils


class InvopopError(Exception):
    """An error as in the Go client, with the answer's key and fields."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.key = body["key"]
        self.fields = body.get("fields", {})
        assert body["message"] and body["code"]


class Invopop:
    """Use as an async context manager."""

    def __init__(self, base: str, token: str) -> None:
        self.base = base
        self.http = aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"})
        self.status = 0

    async def __aenter__(self) -> Invopop:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.close()

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        async with self.http.request(method, f"{self.base}{path}", json=body, params=query) as answer:
            said = await answer.json()
            self.status = answer.status
            if answer.status >= 400:
                raise InvopopError(answer.status, said)
            return said

    async def run(self, workflow_id: str, **body: Any) -> dict[str, Any]:
        """Put a job and wait for it, as the client's tests do."""
        job: dict[str, Any] = await self.call(
            "PUT", f"/transform/v1/jobs/{uuid_utils.uuid7()}", {"workflow_id": workflow_id, **body}, wait="30"
        )
        return job


def failed(job: dict[str, Any]) -> bool:
    """The Go client's test of a failed job: it has ended, and the last event of its last intent is KO."""
    return "completed_at" in job and bool(job["intents"][-1]["events"][-1]["status"] == "KO")
