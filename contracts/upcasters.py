"""From an older major version of a type to the newest, one step at a time, when a record is read. Handlers see the newest alone.

A new major is a new `TYPE` on a topic of its own (`reference/reliability-contracts-telemetry.md` part B2); for a stated time
both are published. What was written before stays as it is on its topic, and comes out of `from_record` as the newest type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Upcaster = tuple[str, Callable[[Any], Any]]
"""The next newer type, and what makes its data of the older one's. Raises `KeyError`, `TypeError` or `ValueError` if it cannot."""

UPCASTERS: dict[str, Upcaster] = {}
"""Older type → step. Empty: every type is still in its first major version."""


def upcast(type_: str, data: Any, table: Mapping[str, Upcaster] = UPCASTERS) -> tuple[str, Any]:
    """The newest type that `type_` leads to, and `data` in its shape. A type without a step is the newest."""
    seen = {type_}
    while type_ in table:
        type_, step = table[type_]
        if type_ in seen:
            raise ValueError(f"upcasters go in a circle at {type_}")
        seen.add(type_)
        data = step(data)
    return type_, data
