"""Whose an object is, by its name. The one place that judges names of objects and of tenants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

INCOMING = "incoming/"
"""Prefix of objects that are being written. The next part of such a name is the tenant."""
MAX_NAME = 400
CONTENT = re.compile(r"[^/]+/(?P<start>[0-9a-f]{2})/(?P<sha256>(?P=start)[0-9a-f]{62})(?:-[0-9a-f]{16})?")
"""Name of stored content: tenant, SHA-256 and, of what a step stored, a mark of its job."""
_PLAIN = re.compile(r"[^\x00-\x1f\x7f/\\%]{1,200}")
"""One part of a name. Escapes are refused, because one store decodes them and another does not."""


def is_tenant(tenant: str) -> bool:
    """True for a tenant that may own objects: one plain part, which is neither a dot, nor two, nor the incoming area."""
    return _PLAIN.fullmatch(tenant) is not None and tenant not in (".", "..") and tenant.lower() != INCOMING[:-1]


def owns(tenant: str, name: str) -> bool:
    """True when the object `name` belongs to `tenant`: its first part is the tenant, and no part leads elsewhere."""
    parts = name.removeprefix(INCOMING).split("/")
    if not is_tenant(tenant) or len(name) > MAX_NAME or len(parts) < 2 or parts[0] != tenant:
        return False
    return all(_PLAIN.fullmatch(part) and part not in (".", "..") for part in parts)


def names_object(key: str) -> bool:
    """True for a key of a result, of data or of settings whose value is the name of an object."""
    return key == "blob_name" or key.endswith("_blob")


def object_names(value: Any) -> Iterator[str]:
    """Names of objects anywhere in a JSON value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str) and names_object(str(key)):
                if item:
                    yield item
            else:
                yield from object_names(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from object_names(item)


def foreign_object(tenant: str, value: Any, path: str = "") -> str | None:
    """Path of the first name in a JSON value that is not the name of an object of `tenant`; None when there is none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            at = f"{path}.{key}" if path else str(key)
            if names_object(str(key)):
                if item is not None and item != "" and not (isinstance(item, str) and owns(tenant, item)):
                    return at
            elif (found := foreign_object(tenant, item, at)) is not None:
                return found
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if (found := foreign_object(tenant, item, f"{path}.{index}" if path else str(index))) is not None:
                return found
    return None
