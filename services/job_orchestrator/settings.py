"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from shared.settings import Settings


class OrchestratorSettings(Settings):
    """`STAGELINE_WORKFLOWS` names a folder of further workflow files."""

    workflows: Path | None = None
