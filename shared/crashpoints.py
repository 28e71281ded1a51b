"""Named places at which a test may kill the process. Free when off: one truth test of an empty list.

`STAGELINE_CRASH_AT=session.after_commit:3,notifier.before_settle:5` ends each of the two services with code 137, as SIGKILL
would, at its third and fifth pass. The supervisor gives it to a process's first life only. With `STAGELINE_CRASH_ONCE` the passes
count from the moment on at which that file exists: a start that needs the same steps is over by then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

CrashPoint = Literal["before_commit", "after_commit", "after_publish", "before_settle", "after_settle", "before_report"]


class _Trigger:
    def __init__(self, spec: str) -> None:
        name, _, count = spec.partition(":")
        self.service, _, self.point = name.rpartition(".")
        self.left = int(count or 1)

    def passed(self, service: str, point: str) -> None:
        if point == self.point and self.service in ("", service) and (_once is None or os.path.exists(_once)):
            self.left -= 1
            if self.left == 0:
                os._exit(137)


_once: str | None = None
_triggers: list[_Trigger] = []


def arm(environment: Mapping[str, str]) -> None:
    """Take the places from `environment`: each service does as it starts, which may be long after this module was loaded."""
    global _once
    _once = environment.get("STAGELINE_CRASH_ONCE")
    _triggers[:] = [_Trigger(spec) for spec in environment.get("STAGELINE_CRASH_AT", "").split(",") if spec]


def reach(service: str, point: CrashPoint) -> None:
    """Mark that `service` passes `point`."""
    for trigger in _triggers:
        trigger.passed(service, point)
