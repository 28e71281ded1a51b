"""What is wrong with a request that does not match its route: each field by the name under which the client sent it."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError

from contracts.field_names import field_of, reason_of

MOST_SHOWN = 500
"""Characters of a field's name in an answer."""


def faults_of(error: RequestValidationError) -> list[tuple[str, str]]:
    """(field, reason) of each fault, in order. A fault of the body as a whole has the field `body`."""
    return [(shown(_field(fault, error.body)), reason_of(fault)) for fault in error.errors()]


def shown(name: str) -> str:
    """A name that an answer can hold: valid Unicode, and not as long as the body."""
    return name[:MOST_SHOWN].encode("utf-8", "replace").decode()


def _field(fault: dict[str, Any], sent: Any) -> str:
    where, *location = fault["loc"]
    if where == "body":
        return ("" if fault["type"] == "json_invalid" else field_of(location, fault["type"], sent)) or "body"
    # A parameter is a text or a list of texts: behind its name only places in the list are part of what was sent.
    name, *within = location or [where]
    return ".".join([str(name), *(str(part) for part in within if isinstance(part, int))])
