"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from pydantic import AnyHttpUrl

from shared.settings import Settings


class OrchestratorSettings(Settings):
    """What the orchestrator needs beside the common settings."""

    workflows: Path | None = None
    """A folder with further workflow files (YAML). They are read at the start."""
    public_url: AnyHttpUrl | None = None
    """The gateway's address as workers outside see it. Addresses in their tasks begin with it; without one tasks have none."""
    task_key_file: Path | None = None
    """A file with the key that signs the addresses in tasks. `stageline up` writes it; the gateway needs the same."""
