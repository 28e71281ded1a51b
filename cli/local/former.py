"""The processes of a supervisor that was killed: they are still ending while the next one starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from cli.local.plan import SERVICES

PATIENCE_S = 30.0
"""As long as services may take to drain."""
_LOG = re.compile(rf"(?:kafka|forkserver|(?:{'|'.join(SERVICES)})(?:-\d+)?)\.log")


async def end_former(data_dir: Path, say: Callable[[str], None], patience_s: float = PATIENCE_S) -> None:
    """Wait until the processes of an earlier supervisor of `data_dir` have ended; after `patience_s` they are killed.

    Called by the holder of the data directory's lock. Where the system has no `/proc` (macOS), none is found.
    """
    found = former(data_dir)
    if not found:
        return
    say(f"an earlier supervisor was killed; waiting for its processes: {', '.join(sorted(found.values()))}")
    _signal(found, signal.SIGTERM)  # the kernel has sent it already, where it can
    deadline = asyncio.get_running_loop().time() + patience_s
    while found := former(data_dir):
        if asyncio.get_running_loop().time() > deadline:
            _signal(found, signal.SIGKILL)
        await asyncio.sleep(0.1)


def former(data_dir: Path) -> dict[int, str]:
    """Process id → name of this user's processes that write to the logs of `data_dir`, as only a supervisor starts them."""
    logs, found = str((data_dir / "logs").resolve()), {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            folder, name = os.path.split(os.readlink(process / "fd" / "1"))
            if folder == logs and _LOG.fullmatch(name) and process.stat().st_uid == os.geteuid():
                found[int(process.name)] = name.removesuffix(".log")
    return found


def _signal(found: dict[int, str], number: signal.Signals) -> None:
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
