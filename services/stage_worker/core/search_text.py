"""Text made ready for full-text search: one form for what people see as the same word."""

from __future__ import annotations

import re
import unicodedata


def normalise(text: str, limit: int = 1_000_000) -> str:
    """NFKC form, words broken over lines rejoined, runs of white space as one space; at most `limit` characters."""
    text = unicodedata.normalize("NFKC", text[: 2 * limit])
    text = re.sub(r"(\w)[-\u00ad\u2010]\n(\w)", r"\1\2", text)
    return re.sub(r"\s+", " ", text).strip()[:limit]
