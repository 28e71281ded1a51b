"""The name of a faulty field as its sender wrote it. Pure.

pydantic's location of a fault also names parts of our types, such as `dict[str,any]` in a union. Only what the input holds is part
of the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OBJECTS = frozenset({"model_type", "model_attributes_type", "dict_type", "dataclass_type"})
"""pydantic's kinds of faults that stand for a value that is no object; its own texts name our classes."""


def field_of(location: Sequence[str | int], kind: str, sent: Any) -> str:
    """The field at pydantic's `location` in the input `sent`, with dots between its parts; empty for the whole input.

    `kind` is the fault's type: the last part of a `missing` field is not in the input.
    """
    found: list[str] = []
    value = sent
    for position, part in enumerate(location):
        if _holds(value, part):
            value = value[part]
        elif not (kind == "missing" and position == len(location) - 1):
            continue
        found.append(str(part))
    return ".".join(found)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(part, int) and isinstance(value, list | tuple) and 0 <= part < len(value)


def reason_of(fault: Mapping[str, Any]) -> str:
    """What is wrong, for people, from one of pydantic's error details."""
    kind = fault["type"]
    if kind in OBJECTS:
        return "an object is expected"
    if kind == "json_invalid" and fault["loc"]:
        reason = str(fault.get("ctx", {}).get("error", "")).lower()
        return f"not valid JSON: {reason} at character {fault['loc'][-1]}"
    return str(fault["msg"])
