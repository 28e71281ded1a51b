"""Times in queries and answers: text as in RFC 3339, in both directions."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from services.ingest.http.errors import Unprocessable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(value: str, field: str = "created_at") -> float:
    """A time of a query in Unix seconds; without a zone it is UTC. Raises 422."""
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Unprocessable({field: "must be a time as in RFC 3339"}) from None


def place(at: float) -> str:
    """A time in Unix seconds as the place of a page: never before it, so that the page begins with what was made then."""
    # Exact: as floats, the product is rounded, down as well.
    return (
        (_EPOCH + timedelta(microseconds=math.ceil(Fraction(at) * 1_000_000)))
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )
