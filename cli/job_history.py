"""Reads all events of a job."""

from __future__ import annotations

from typing import Any

from cli.client import Client
from cli.target import route


async def history_of(client: Client, job_id: str) -> list[dict[str, Any]]:
    """All events of a job and its files, in order, page by page."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        path = route("/v1/jobs/{}/history", job_id)
        answer = await client.call("GET", path, params={"limit": "1000", "after": str(after)})
        found += answer["result"]
        if answer["next"] is None:
            return found
        after = answer["next"]
