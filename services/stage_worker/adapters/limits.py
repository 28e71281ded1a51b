"""What one document may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Address space and largest file in bytes, CPU in seconds. Wall clock is the task's own `timeout_s`."""

    memory_bytes: int = 2 << 30
    file_bytes: int = 512 << 20
    cpu_s: int = 600
