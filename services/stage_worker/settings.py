"""Settings of a worker."""

from __future__ import annotations

import os

from pydantic import Field

from shared.settings import Settings


class WorkerSettings(Settings):
    """`STAGELINE_ACTIONS` (JSON list) limits what this worker serves; empty serves every built-in action."""

    actions: tuple[str, ...] = ()
    concurrency: int = Field(default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=1000)
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    child_memory_bytes: int = Field(default=2 << 30, ge=256 << 20)
    child_cpu_s: int = Field(default=600, ge=1)
