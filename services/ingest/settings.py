"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import Settings


class IngestSettings(Settings):
    """Sizes in bytes, times in seconds."""

    admin_key_file: Path | None = None
    """File with the first admin key. In local mode the supervisor writes it with mode 0600."""
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    max_upload_bytes: int = Field(default=2 << 30, ge=1, le=1 << 50)
    """Largest resumable upload."""
    upload_ttl_s: int = Field(default=86_400, ge=1)
    """Time after which an unfinished resumable upload is deleted."""
    session_ttl_s: int = Field(default=86_400, ge=1)
    decision_timeout_s: float = Field(default=15.0, gt=0)
    conversion_needs_key: bool = False
    """Ask for a key in the Conversion Service's dialect also on this machine."""
    watched_folders_file: Path | None = None
    """JSON file that lists the watched folders, whose documents are converted
    (`services/ingest/dialects/pdftools/watched_folders.py`)."""
    conversion_max_jobs: int = Field(default=1000, ge=1)
    """Most jobs of a tenant in the Conversion Service's dialect, until it deletes some."""
    conversion_ttl_s: float = Field(default=86_400, ge=1, le=31_536_000)
    """Age at which a job of the Conversion Service's dialect is deleted."""
    amx_window_s: float = Field(default=300.0, gt=0, le=3600)
    """Largest clock difference between a client that signs its requests and this service."""
    token_ttl_s: int = Field(default=86_400, ge=60)
    """Lifetime of a token that was issued for a password."""
    requests_per_minute: int = Field(default=120_000, ge=1)
    """Request limit of a tenant without a limit of its own, over all replicas."""
    signins_per_minute: int = Field(default=20, ge=1)
    """Sign-in attempts for one user name."""
