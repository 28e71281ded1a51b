"""The OpenAPI documents that a running gateway serves."""

from __future__ import annotations

from typing import Any

from cli.client import Client


async def all_paths(client: Client) -> dict[str, Any]:
    """The paths of every document, found as a client finds them: by `/v1/about`."""
    about = await client.call("GET", "/v1/about")
    found: dict[str, Any] = {}
    for address in about["openapi"].values():
        found |= (await client.call("GET", address))["paths"]
    return found
