"""Rotation of signing secrets: a former secret signs beside the new one until its time is over."""

from __future__ import annotations

import json

MOST_FORMER = 4
"""Former secrets that sign at a time. The oldest gives way."""
OVERLAP_S = 86_400
"""Seconds that a former secret goes on signing, unless the caller says otherwise."""
MOST_OVERLAP_S = 30 * 86_400


def former_secrets(stored: str | None, now: float) -> list[tuple[str, float]]:
    """The former secrets that still sign, newest first, each with its end in Unix seconds. `stored` is the endpoint's column."""
    return [(secret, until) for secret, until in json.loads(stored or "[]") if until > now]


def with_former(stored: str | None, secret: str, until: float, now: float) -> str:
    """The column after a rotation: `secret` signs until `until`, and no former one longer than that or than before.

    So a rotation without overlap ends all of them, for a secret that leaked. Times are in Unix seconds.
    """
    kept = [(secret, until), *((old, min(end, until)) for old, end in former_secrets(stored, now))]
    return json.dumps([pair for pair in kept if pair[1] > now][:MOST_FORMER])
