"""Converts records of an older major version to the newest when they are read, one step at a time. Handlers see the newest alone.

A new major version is a new `TYPE` on a topic of its own (`reference/reliability-contracts-telemetry.md` part B2). Both are
published for a stated time. Older records stay unchanged on their topic; `from_record` returns them as the newest type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Upcaster = tuple[str, Callable[[Any], Any]]
"""The next newer type, and the function that converts the data. It raises `KeyError`, `TypeError` or `ValueError` if it cannot."""

UPCASTERS: dict[str, Upcaster] = {}
"""Older type → upcaster. Empty while every type is in its first major version."""


def upcast(type_: str, data: Any, table: Mapping[str, Upcaster] = UPCASTERS) -> tuple[str, Any]:
    """The newest type of `type_`, and `data` in its shape. A type without an upcaster is the newest.

    Raises `ValueError` for a circle in `table`, and what an upcaster raises.
    """
    seen = {type_}
    while type_ in table:
        type_, step = table[type_]
        if type_ in seen:
            raise ValueError(f"upcasters go in a circle at {type_}")
        seen.add(type_)
        data = step(data)
    return type_, data
