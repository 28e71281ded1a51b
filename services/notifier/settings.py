"""Settings of the notifier."""

from __future__ import annotations

from pydantic import AnyHttpUrl, Field

from services.notifier.core.delivery import SCHEDULE_S
from shared.settings import Settings


class NotifierSettings(Settings):
    """What the notifier needs beside the common settings. Times in seconds."""

    public_url: AnyHttpUrl | None = None
    """The gateway's address as clients see it, as at the gateway itself. In events for Alfred's clients, addresses of files begin with
    it."""
    webhook_schedule: tuple[float, ...] = Field(default=SCHEDULE_S, min_length=1, max_length=50)
    """Seconds before each attempt at a delivery. The list has one entry per attempt."""
    webhook_timeout_s: float = Field(default=15.0, gt=0, le=60)
    """Seconds that an endpoint has to answer."""
    webhook_challenge: bool = False
    """New addresses must repeat a word (`url_verification`), so that nobody sends events to a server that is not theirs."""
    webhooks_in_flight: int = Field(default=200, ge=1)
    """Deliveries under way at a time."""
    webhooks_per_endpoint: int = Field(default=16, ge=1)
    """Deliveries under way to one endpoint at a time."""
    webhooks_per_address: int = Field(default=64, ge=1)
    """Deliveries under way to one host and port at a time, which several endpoints may share. An endpoint without any gets one more."""
    max_streams: int = Field(default=200, ge=1)
    """Open event streams and sockets at a time, in one process."""
    max_streams_per_tenant: int = Field(default=100, ge=1)
    """The same for one tenant."""
    max_streams_per_key: int = Field(default=50, ge=1)
    """The same for one key."""
