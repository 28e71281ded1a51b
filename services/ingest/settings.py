"""Settings of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import AnyHttpUrl, Field

from shared.settings import Settings


class IngestSettings(Settings):
    """Sizes in bytes, times in seconds."""

    admin_key_file: Path | None = None
    """A file with the first admin key. `stageline up` writes it, readable by its owner alone."""
    public_url: AnyHttpUrl | None = None
    """The gateway's address as clients see it, e.g. `https://documents.example.com`. Shared links and addresses of files begin with it.
    `stageline up` sets its own address; without one they are paths alone."""
    notifier_public_url: AnyHttpUrl | None = None
    """The notifier's address as clients see it. The gateway sends them there for webhooks and event streams. `stageline up` sets it."""
    max_file_bytes: int = Field(default=100 << 20, ge=1)
    """Bytes of one uploaded file at most."""
    max_upload_bytes: int = Field(default=2 << 30, ge=1, le=1 << 50)
    """Bytes of a resumable upload at most."""
    upload_ttl_s: int = Field(default=86_400, ge=1)
    """Seconds that a resumable upload waits for more bytes."""
    session_ttl_s: int = Field(default=86_400, ge=1)
    """Seconds that a deferred session stays open."""
    recycle_days: float = Field(default=30.0, ge=0, le=36_500)
    """Days that a file stays in the recycle bin. Then it is erased."""
    decision_timeout_s: float = Field(default=15.0, gt=0)
    """Seconds that a request waits for the decision on its command."""
    conversion_needs_key: bool = True
    """The Conversion Service dialect asks for a key. `0` lets programs on this machine in without one, as the tenant `keyless`;
    `stageline up` sets that where it listens on the loopback."""
    watched_folders_file: Path | None = None
    """A JSON file with the folders whose documents are converted, e.g. `{"scans": {"path": "/srv/scans"}}`."""
    conversion_max_jobs: int = Field(default=1000, ge=1)
    """Jobs of the Conversion Service dialect that a tenant may have at a time."""
    conversion_ttl_s: float = Field(default=86_400, ge=1, le=31_536_000)
    """Seconds after which a job of the Conversion Service dialect is deleted."""
    max_pending: int = Field(default=4000, ge=2)
    """Commands that wait for their decision at a time, in one process. A tenant may have half of them. Beyond that the answer is 503
    `overloaded` with Retry-After."""
    max_waits: int = Field(default=1000, ge=1)
    """Requests that wait for the end of a job at a time (`Prefer: wait`, `getJobResult`), in one process."""
    max_waits_per_tenant: int = Field(default=250, ge=1)
    """The same for one tenant. Beyond that the answer is 429."""
    max_waits_per_key: int = Field(default=100, ge=1)
    """The same for one key."""
    amx_window_s: float = Field(default=300.0, gt=0, le=3600)
    """Seconds by which the clock of a client with `amx` signatures may be off."""
    secrets_key_file: Path | None = None
    """A file with the key that seals secrets of tenants. `stageline up` writes it; the workers need the same."""
    task_key_file: Path | None = None
    """A file with the key that signs the addresses in tasks, by which workers outside read and store files. The orchestrator needs the same."""
    token_ttl_s: int = Field(default=86_400, ge=60)
    """Seconds that a token from `/token` is valid."""
    requests_per_minute: int = Field(default=120_000, ge=1)
    """Requests per minute of a tenant without a limit of its own, over all replicas."""
    signins_per_minute: int = Field(default=20, ge=1)
    """Sign-ins per minute from one address. A user's own address, by a success in the last 30 days, has this number for itself."""
    signins_per_minute_total: int = Field(default=600, ge=1)
    """Sign-ins per minute from all addresses together that are not known for their user, over all replicas."""
    signin_queue: int = Field(default=20, ge=2)
    """Passwords that wait to be checked, in one process. Half of the places are kept for addresses that are known for their user."""
    workflows_per_tenant: int = Field(default=100, ge=0)
    """Workflows of a tenant without a limit of its own."""
    actions_per_tenant: int = Field(default=20, ge=0)
    """Actions that a tenant without a limit of its own may introduce in its workflows. Each gets a Kafka topic for its tasks."""
