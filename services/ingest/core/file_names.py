"""File names as callers send them, made safe to show. Pure."""

from __future__ import annotations


def clean_name(name: str) -> str:
    """The last path segment without control characters, at most 255 characters; may be empty. For display: never use it as a path."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in base if c.isprintable()).strip()[:255]
