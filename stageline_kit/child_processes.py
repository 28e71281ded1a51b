"""Processes that this one has started, however deep. Empty where the system has no `/proc`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def started_processes() -> set[int]:
    """Ids of all descendants of this process."""
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        new = _children(todo.pop()) - found
        found |= new
        todo += new
    return found


def kill_processes(pids: Iterable[int]) -> None:
    """Send SIGKILL to processes, as far as they are still there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(child) for child in path.read_text().split()}
    return found
