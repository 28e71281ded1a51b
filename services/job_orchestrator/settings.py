"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from shared.settings import Settings


class OrchestratorSettings(Settings):
    """What the orchestrator needs beside the common settings."""

    workflows: Path | None = None
    """A folder with further workflow files (YAML). They are read at the start."""
