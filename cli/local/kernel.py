"""What a child process asks of the kernel: to end with its parent, to have the cores after others."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """SIGTERM to this process when `parent`, its parent's pid, is gone, however that ended: nobody would watch it any more (prctl(2); Linux).
    Ends it at once when that has happened already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def give_way(niceness: int) -> None:
    """Have the cores after others, by `niceness` (0 to 19), for this process and what it starts; it has called `setsid`.

    Where each session is a group of its own for the scheduler (sched(7), "autogroup"), niceness counts within a session alone, and between
    sessions that of the group does. The kernel lets unprivileged users set one every tenth of a second, all together.
    """
    if not niceness:
        return
    os.nice(niceness)
    group = Path("/proc/self/autogroup")
    deadline = time.monotonic() + 3
    with contextlib.suppress(OSError):  # a kernel without them, or a container that may not
        while time.monotonic() < deadline:
            try:
                group.write_text(str(niceness))
                return
            except BlockingIOError:
                time.sleep(0.05)
