"""Spans of time as people read them. Pure."""

from __future__ import annotations

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """A span with its largest fitting unit, e.g. `40 s`, `2.5 h`."""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
