"""Named places at which a test may kill the process. Free when off: one comparison with None.

`STAGELINE_CRASH_AT=orchestrator.after_commit:3` exits with code 137 at the third pass, as SIGKILL would.
"""

from __future__ import annotations

import os
from typing import Literal

CrashPoint = Literal["before_commit", "after_commit", "after_publish", "before_settle", "after_settle", "before_report"]


class _Trigger:
    def __init__(self, spec: str) -> None:
        name, _, count = spec.partition(":")
        self.service, _, self.point = name.rpartition(".")
        self.left = int(count or 1)

    def passed(self, service: str, point: str) -> None:
        if point == self.point and self.service in ("", service):
            self.left -= 1
            if self.left == 0:
                os._exit(137)


_spec = os.environ.get("STAGELINE_CRASH_AT", "")
_trigger = _Trigger(_spec) if _spec else None


def reach(service: str, point: CrashPoint) -> None:
    """Mark that `service` passes `point`."""
    if _trigger is not None:
        _trigger.passed(service, point)
