"""Who may read a published workflow: its definition holds configuration, such as addresses and tokens. Pure."""

from __future__ import annotations

from typing import Any

EVERYBODY = "*"
PRIVATE = "tenant."
"""Prefix of the names that translated workflows of tenants have (Invopop's dialect)."""


def may_read(record: dict[str, Any], tenant: str, platform: str) -> bool:
    """True for the tenant that published it, and for everybody where it came with the release.

    A record without an owner is of the platform's operator: from a file, or from a release that did not say.
    """
    owner = record.get("owner")
    if owner is None:
        return tenant == platform and not record["name"].startswith(PRIVATE)
    return bool(owner in (EVERYBODY, tenant))


def may_run(record: dict[str, Any], tenant: str, platform: str) -> bool:
    """True where `tenant` may name the workflow: those that it may read, and the platform's, which all tenants share."""
    return may_read(record, tenant, platform) or may_read(record, platform, platform)
