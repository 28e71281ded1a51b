"""Normal form of text for full-text search, so that equal words match."""

from __future__ import annotations

import re
import unicodedata


def normalise(text: str, limit: int = 1_000_000) -> str:
    """Returns NFKC text with hyphenated words rejoined and single spaces, at most `limit` characters."""
    text = unicodedata.normalize("NFKC", text[: 2 * limit])
    text = re.sub(r"(\w)[-\u00ad\u2010]\n(\w)", r"\1\2", text)
    return re.sub(r"\s+", " ", text).strip()[:limit]
