"""File names as callers send them, made safe to show. Pure."""

from __future__ import annotations

import re

_WINDOWS_PATH = re.compile(r"([A-Za-z]:)?\\")


def clean_name(name: str) -> str:
    """The last path segment without control characters, at most 255 characters; may be empty. For display: never use it as a path.

    A backslash belongs to the name, unless the name is a path of Windows (`C:\\…`, `\\server\\…`).
    """
    base = name.rpartition("/")[2]
    if _WINDOWS_PATH.match(base):
        base = base.rpartition("\\")[2]
    return "".join(c for c in base if c.isprintable()).strip()[:255]


def path_part(name: str) -> str:
    """A cleaned name as one part of a path on any system: also backslashes separate."""
    return clean_name(name.replace("\\", "/"))


def plain_name(name: str, default: str) -> str:
    """A part of a path that is not hidden and names no folder; `default` when nothing is left of it."""
    return path_part(name).lstrip(".") or default
