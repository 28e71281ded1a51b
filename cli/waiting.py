"""Why a job waits, and spans of time, as all commands print them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float | None) -> str:
    """A span with its largest fitting unit, e.g. `40 s`, `2.5 h`; empty for None."""
    if seconds is None:
        return ""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def moment(at: float | None) -> str:
    """A Unix time as a date and time in UTC; empty for None."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def ago(at: float | None) -> str:
    """How long ago a Unix time is; empty for None."""
    return "" if at is None else f"{span(time.time() - at)} ago"


def reason_line(waiting: dict[str, Any]) -> str:
    """An explanation of the gateway on one line, in Rich's markup: the message, the code, when it changes."""
    until = ""
    if waiting.get("changes_at"):
        left = datetime.fromisoformat(waiting["changes_at"]).timestamp() - time.time()
        until = f", changes at {waiting['changes_at']}" + (f" (in {span(left)})" if left > 0 else "")
    return f"{escape(waiting['message'])} [dim]({waiting['code']}{until})[/dim]"
