"""Named places at which a test can kill the process. Without a test each costs one check of an empty list.

`STAGELINE_CRASH_AT=session.after_commit:3,notifier.before_settle:5` ends the two services with exit code 137, as SIGKILL would, at
their third and fifth pass. The supervisor passes it to a process's first life only. With `STAGELINE_CRASH_ONCE=FILE` passes count
only while that file exists, so that a start, which takes the same steps, is not counted.
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
    """Read the crash points from `environment`. A service calls this when it starts, possibly long after this module was imported."""
    global _once
    _once = environment.get("STAGELINE_CRASH_ONCE")
    _triggers[:] = [_Trigger(spec) for spec in environment.get("STAGELINE_CRASH_AT", "").split(",") if spec]


def reach(service: str, point: CrashPoint) -> None:
    """Pass `point` in `service`; ends the process when the environment says so."""
    for trigger in _triggers:
        trigger.passed(service, point)
