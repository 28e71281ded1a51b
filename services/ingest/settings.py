"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import Settings


class IngestSettings(Settings):
    """Sizes in bytes, times in seconds."""

    admin_key_file: Path | None = None
    """A file with the first admin key. `stageline up` writes it, readable by its owner alone."""
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    """Bytes of one uploaded file at most."""
    max_upload_bytes: int = Field(default=2 << 30, ge=1, le=1 << 50)
    """Bytes of a resumable upload at most."""
    upload_ttl_s: int = Field(default=86_400, ge=1)
    """Seconds that a resumable upload waits for more bytes."""
    session_ttl_s: int = Field(default=86_400, ge=1)
    """Seconds that a deferred session stays open."""
    decision_timeout_s: float = Field(default=15.0, gt=0)
    """Seconds that a request waits for the decision on its command."""
    conversion_needs_key: bool = False
    """The Conversion Service dialect asks for a key even from callers on this machine."""
    watched_folders_file: Path | None = None
    """A JSON file with the folders whose documents are converted, e.g. `{"scans": {"path": "/srv/scans"}}`."""
    conversion_max_jobs: int = Field(default=1000, ge=1)
    """Jobs of the Conversion Service dialect that a tenant may have at a time."""
    conversion_ttl_s: float = Field(default=86_400, ge=1, le=31_536_000)
    """Seconds after which a job of the Conversion Service dialect is deleted."""
    amx_window_s: float = Field(default=300.0, gt=0, le=3600)
    """Seconds by which the clock of a client with `amx` signatures may be off."""
    token_ttl_s: int = Field(default=86_400, ge=60)
    """Seconds that a token from `/token` is valid."""
    requests_per_minute: int = Field(default=120_000, ge=1)
    """Requests per minute of a tenant without a limit of its own, over all replicas."""
    signins_per_minute: int = Field(default=20, ge=1)
    """Attempts per minute at the password of one user."""
