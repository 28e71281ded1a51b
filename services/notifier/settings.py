"""Settings of the notifier."""

from __future__ import annotations

from pydantic import Field

from services.notifier.core.delivery import SCHEDULE_S
from shared.settings import Settings


class NotifierSettings(Settings):
    """Times in seconds. `STAGELINE_WEBHOOK_SCHEDULE` is a JSON list of delays before each attempt."""

    webhook_schedule: tuple[float, ...] = Field(default=SCHEDULE_S, min_length=1, max_length=50)
    webhook_timeout_s: float = Field(default=15.0, gt=0, le=60)
    webhooks_in_flight: int = Field(default=200, ge=1)
    webhooks_per_endpoint: int = Field(default=16, ge=1)
    max_streams: int = Field(default=100, ge=1)
