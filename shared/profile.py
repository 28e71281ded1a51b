"""Where a process's time goes, by samples: `STAGELINE_PROFILE=FILE` writes, when the process ends, which functions were on the CPU.

A hundred times a second each thread's CPU clock is read, and what it has used since is put down to the function it is in now; so a
thread that waits counts for nothing, in Python or in C (work shorter than that is put down to where its thread waits after it).
Deterministic profilers see one thread and double its time; this one costs about a percent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

PERIOD_S = 0.01
KEPT = 60


class Sampler:
    """Adds up CPU seconds by innermost function, and by the innermost function of ours that led there."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.inner: defaultdict[str, float] = defaultdict(float)
        self.ours: defaultdict[str, float] = defaultdict(float)
        self.cpu_s = 0.0
        self._used: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self.sample, name="profile", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and write what was found: `{cpu_s, inner: {function: seconds}, ours: {…}}`."""
        self._done.set()
        self._thread.join(1)
        found = {"cpu_s": self.cpu_s, "inner": _most(self.inner), "ours": _most(self.ours)}
        self.target.write_text(json.dumps(found, indent=1))

    def sample(self) -> None:
        """Until stopped."""
        me = threading.get_ident()
        while not self._done.wait(PERIOD_S):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                # The first thread's number is the process's; of a forked one Python 3.11 still says the number before the fork.
                number = os.getpid() if thread is threading.main_thread() else thread.native_id
                if frame is None or thread.ident == me or number is None:
                    continue
                used = self._since(number)
                if used > 0:
                    self._put_down(frame, used)

    def _since(self, thread: int) -> float:
        """CPU seconds of a thread, by the kernel's number, since it was last looked at; none the first time."""
        try:
            # As glibc's pthread_getcpuclockid, but by a number that may be stale without harm.
            now = time.clock_gettime((~thread << 3) | 6)
        except OSError:  # it has ended meanwhile
            return 0.0
        before = self._used.get(thread)
        self._used[thread] = now
        return 0.0 if before is None else now - before

    def _put_down(self, frame: FrameType, used: float) -> None:
        self.cpu_s += used
        self.inner[_name(frame)] += used
        at: FrameType | None = frame
        while at is not None and not _is_ours(at):
            at = at.f_back
        # The event loop is under everything: what it runs that is not ours is better called by its own name.
        root = at is None or at.f_code.co_name == "main"
        self.ours[_name(frame if at is None or root else at)] += used


def _most(used: dict[str, float]) -> dict[str, float]:
    return dict(sorted(used.items(), key=lambda entry: -entry[1])[:KEPT])


def _is_ours(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return "site-packages" not in path and any(f"/{part}/" in path for part in ("services", "shared", "contracts"))


def _name(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.stem}.{frame.f_code.co_qualname}"


def wanted(service: str) -> Sampler | None:
    """The sampler that the environment asks for, or None, also where threads have no CPU clocks (only Linux has); `%s` in the file's name
    is the process."""
    target = os.environ.get("STAGELINE_PROFILE")
    if not target or sys.platform != "linux":
        return None
    return Sampler(Path(target.replace("%s", f"{service}-{os.getpid()}")))
