"""Process settings of the Linux kernel: parent-death signal and scheduling priority."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent dies (prctl(2), PR_SET_PDEATHSIG; Linux).

    `parent` is the expected parent's pid. Exits at once when that process has died already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def give_way(niceness: int) -> None:
    """Lower the scheduling priority of this process and its children. `niceness` is 0 to 19. Call after `setsid`.

    With autogrouping (sched(7)), niceness only counts within a session; the autogroup's niceness counts between sessions, so
    both are set. The kernel allows unprivileged users one such write per tenth of a second, hence the retries.
    """
    if not niceness:
        return
    os.nice(niceness)
    group = Path("/proc/self/autogroup")
    deadline = time.monotonic() + 3
    with contextlib.suppress(OSError):  # no autogroups in this kernel, or no permission in this container
        while time.monotonic() < deadline:
            try:
                group.write_text(str(niceness))
                return
            except BlockingIOError:
                time.sleep(0.05)
