"""Origins of web pages (RFC 6454): scheme, host and port; of a browser's extension: scheme and its id."""

from __future__ import annotations

import re

_ORIGIN = re.compile(
    r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?|chrome-extension://[a-p]{32}|moz-extension://[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


def check_origin(origin: str) -> str:
    """An origin in the form that browsers send, without a path. Raises `ValueError` for `*`, `null` and anything else."""
    found = origin.strip().lower().rstrip("/")
    if not _ORIGIN.fullmatch(found):
        raise ValueError("an origin is expected, e.g. https://app.example.com; neither * nor null")
    return found
