"""How much room the disk of a data directory has, in words without a path: tenants may read them."""

from __future__ import annotations

import os
from pathlib import Path

FULL_BYTES = 32 << 20
"""Below this a disk counts as full: a broker or a database may need as much at once."""


def free_bytes(folder: Path) -> int | None:
    """Free bytes of the disk that holds `folder`; None where the folder does not exist."""
    try:
        space = os.statvfs(folder)
    except OSError:
        return None
    return space.f_bavail * space.f_frsize


def shortage(folder: Path) -> str | None:
    """The reason why nothing can be written; None while there is room."""
    free = free_bytes(folder)
    return f"the server's disk is full: {free >> 20} MiB are left" if free is not None and free < FULL_BYTES else None
