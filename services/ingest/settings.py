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
    max_upload_bytes: int = Field(default=2 << 30, ge=1, le=1 << 50)
    """Of a resumable upload."""
    upload_ttl_s: int = Field(default=86_400, ge=1)
    """How long a resumable upload waits for more bytes."""
    session_ttl_s: int = Field(default=86_400, ge=1)
    decision_timeout_s: float = Field(default=15.0, gt=0)
    conversion_needs_key: bool = False
    """The Conversion Service's dialect asks for a key even from this machine."""
    watched_folders_file: Path | None = None
    """A JSON file with the folders whose documents are converted (`services/ingest/dialects/pdftools/watched_folders.py`)."""
    conversion_max_jobs: int = Field(default=1000, ge=1)
    """Of its jobs that a tenant has not deleted."""
    conversion_ttl_s: float = Field(default=86_400, ge=1, le=31_536_000)
    """After this one of its jobs goes, deleted or not."""
    amx_window_s: float = Field(default=300.0, gt=0, le=3600)
    """How far the clock of a client that signs its requests may be off."""
    token_ttl_s: int = Field(default=86_400, ge=60)
    """How long a token that was given for a password stands."""
    requests_per_minute: int = Field(default=120_000, ge=1)
    """Of a tenant that has no limit of its own, over all replicas."""
    signins_per_minute: int = Field(default=20, ge=1)
    """Tries at one user's password."""
