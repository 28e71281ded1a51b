"""Where a process's time goes, by samples: `STAGELINE_PROFILE=FILE` writes, when the process ends, which functions were on the CPU.

All threads are looked at a hundred times a second; a thread that waits is not counted. Deterministic profilers see one thread and double
its time; this one costs about a percent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

PERIOD_S = 0.01
WAITS = frozenset({"wait", "select", "poll", "_worker", "get", "sleep", "run_forever", "sample", "acquire"})
"""Functions in which a thread waits when they are the innermost."""


class Sampler:
    """Counts innermost functions, and the innermost function of ours that led there."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.inner: Counter[str] = Counter()
        self.ours: Counter[str] = Counter()
        self.samples = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self.sample, name="profile", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and write what was found: `{samples, inner: {function: count}, ours: {…}}`."""
        self._done.set()
        self._thread.join(1)
        found = {"samples": self.samples, "inner": dict(self.inner.most_common(40)), "ours": dict(self.ours.most_common(40))}
        self.target.write_text(json.dumps(found, indent=1))

    def sample(self) -> None:
        """Until stopped."""
        me = threading.get_ident()
        while not self._done.wait(PERIOD_S):
            for ident, frame in sys._current_frames().items():
                if ident != me and frame.f_code.co_name not in WAITS and "uvloop" not in frame.f_code.co_filename:
                    self._count(frame)

    def _count(self, frame: FrameType) -> None:
        self.samples += 1
        self.inner[_name(frame)] += 1
        at: FrameType | None = frame
        while at is not None and not _is_ours(at):
            at = at.f_back
        if at is not None:
            self.ours[_name(at)] += 1


def _is_ours(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return "site-packages" not in path and any(f"/{part}/" in path for part in ("services", "shared", "contracts"))


def _name(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.stem}.{frame.f_code.co_qualname}"


def wanted(service: str) -> Sampler | None:
    """The sampler that the environment asks for, or None; `%s` in the file's name is the process."""
    target = os.environ.get("STAGELINE_PROFILE")
    return Sampler(Path(target.replace("%s", f"{service}-{os.getpid()}"))) if target else None
