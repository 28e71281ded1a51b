"""Bodies of requests about webhook endpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from contracts.identity import plain_id
from services.notifier.core.secrets import MOST_OVERLAP_S, OVERLAP_S

Pattern = Annotated[str, Field(min_length=1, max_length=100)]
Events = Annotated[list[Pattern], Field(max_length=100, description="Names or patterns such as `job.*`; empty means all events")]
Url = Annotated[str, Field(max_length=2048, examples=["https://example.com/hooks/stageline"])]
Description = Annotated[str, Field(max_length=500)]
PlainId = Annotated[str, Field(max_length=200), AfterValidator(plain_id)]
Outcome = Literal["delivered", "retrying", "exhausted", "refused", "disabled", "failed"]


class NewEndpoint(BaseModel):
    """A webhook endpoint."""

    url: Url
    events: Events = []
    description: Description = ""


class EndpointChange(BaseModel):
    """What changes; the rest stays."""

    model_config = ConfigDict(extra="forbid")
    url: Url | None = None
    events: Events | None = None
    description: Description | None = None


class Rotation(BaseModel):
    """For how long the former secret signs beside the new one, in seconds."""

    model_config = ConfigDict(extra="forbid")
    overlap_s: float = Field(default=OVERLAP_S, ge=0, le=MOST_OVERLAP_S)


class Reason(BaseModel):
    """Why somebody acts."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(default="", max_length=300)


class Replay(BaseModel):
    """Which deliveries are sent again: one event's, a job's, those that arrived from `since` until `until`, or with `failed` those that were
    given up. At least one is needed; several are combined."""

    model_config = ConfigDict(extra="forbid")
    event_id: PlainId | None = None
    job_id: PlainId | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    failed: bool = False
    reason: str = Field(default="", max_length=300)
