"""Addresses in answers. They are never made of the `Host` header: any caller chooses that, and a link travels to other people."""

from __future__ import annotations

from services.ingest.adapters.gateway import Gateway


def public_link(gateway: Gateway, path: str) -> str:
    """The address of `path` under `STAGELINE_PUBLIC_URL`; the path alone where that is not set."""
    base = gateway.settings.public_url
    return path if base is None else f"{str(base).rstrip('/')}{path}"
