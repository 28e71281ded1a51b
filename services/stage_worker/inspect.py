"""What the command line may read of the worker: which walls of its sandbox this machine lacks. Read only."""

from __future__ import annotations

from services.stage_worker.adapters.confinement import WALLS
from services.stage_worker.adapters.probe import missing_walls

__all__ = ["WALLS", "missing_walls"]
