"""Settings of the door."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import Settings


class IngestSettings(Settings):
    """Sizes in bytes, times in seconds."""

    admin_key_file: Path | None = None
    """A file holding the first admin key; the supervisor writes it (0600)."""
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    session_ttl_s: int = Field(default=86_400, ge=1)
    decision_timeout_s: float = Field(default=15.0, gt=0)
