"""Normal form of text for full-text search, so that equal words match."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache

MAX_MARKS = 30
"""Combining marks after a letter: as many as the Stream-Safe Text Format keeps (Unicode UAX 15, §13)."""
PIECE = 50_000
"""Characters that are brought into the form at a time."""


def normalise(text: str, limit: int = 1_000_000) -> str:
    """Returns NFKC text with hyphenated words rejoined and single spaces, at most `limit` characters."""
    # Marks are put into order by a sort whose time grows with the square of their number.
    text = _compatible(_marks().sub(r"\1", text[: 2 * limit]), 2 * limit)
    text = re.sub(r"(\w)[-\u00ad\u2010]\n(\w)", r"\1\2", text)
    return re.sub(r"\s+", " ", text).strip()[:limit]


def _compatible(text: str, limit: int) -> str:
    """NFKC of `text`, in pieces that end at white space, until `limit` characters are made: one character can become eighteen."""
    made: list[str] = []
    start = size = 0
    while start < len(text) and size < limit:
        end = start + PIECE
        space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
        end = space + 1 if space > start and end < len(text) else end
        made.append(unicodedata.normalize("NFKC", text[start:end]))
        size += len(made[-1])
        start = end
    return "".join(made)[:limit]


@lru_cache(maxsize=1)
def _marks() -> re.Pattern[str]:
    """More than `MAX_MARKS` characters in a row that are combining marks, or that decompose into some."""
    points = [point for point in range(0x300, sys.maxunicode + 1) if _combines(chr(point))]
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    marks = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)
    return re.compile(f"([{marks}]{{{MAX_MARKS}}})[{marks}]+")


def _combines(character: str) -> bool:
    if unicodedata.combining(character):
        return True
    return bool(unicodedata.decomposition(character)) and bool(unicodedata.combining(unicodedata.normalize("NFKD", character)[0]))
