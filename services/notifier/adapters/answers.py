"""What the notifier's HTTP API answers, as published models."""

from __future__ import annotations

from pydantic import BaseModel, Field

ENDPOINT = "0197f4a2-6c3e-7c1d-9a55-3b1f0d2e4c5b"


class CreatedEndpoint(BaseModel):
    """The new endpoint. Only this answer contains the signing secret (Standard Webhooks)."""

    id: str = Field(examples=[ENDPOINT])
    url: str = Field(examples=["https://example.com/hooks/stageline"])
    events: list[str] = Field(examples=[["job.*"]])
    secret: str = Field(examples=["whsec_…"])


class Endpoint(BaseModel):
    """An endpoint without its secret."""

    id: str = Field(examples=[ENDPOINT])
    url: str
    events: list[str] = Field(description="Names or patterns; empty means all events.")
    description: str
    created_at: float = Field(description="Unix seconds.")
    state: str = Field(examples=["active"], description="`active` or `disabled`.")
    disabled_reason: str | None
    failing_since: float | None = Field(description="Unix seconds.")
    shape: str = Field(examples=["typed"], description="`typed`, `alfred` or `alfred-flat`.")
    former_secret_until: float | None = Field(description="Until when a former secret signs too, in Unix seconds.")


class EndpointState(Endpoint):
    """An endpoint and the state of its deliveries. Times are Unix seconds."""

    deliveries: dict[str, int] = Field(description="State → number of deliveries.", examples=[{"delivered": 40, "retrying": 2}])
    next_attempt_at: float | None
    last_delivered_at: float | None
    last_failed_at: float | None


class RotatedSecret(BaseModel):
    """The new secret, which only this answer contains, and until when the former one signs too (Unix seconds)."""

    id: str = Field(examples=[ENDPOINT])
    secret: str = Field(examples=["whsec_…"])
    former_secret_until: float


class Endpoints(BaseModel):
    """The tenant's endpoints."""

    result: list[Endpoint]


class DueDeliveries(BaseModel):
    """How many deliveries are due now."""

    due: int = Field(examples=[12])


class Attempt(BaseModel):
    """One try of one delivery."""

    id: str
    endpoint_id: str = Field(examples=[ENDPOINT])
    event_id: str
    event_type: str = Field(examples=["JobStageUpdate"])
    job_id: str | None
    attempt: int = Field(description="Its number, from 1.")
    attempted_at: float = Field(description="Unix seconds.")
    outcome: str = Field(examples=["delivered"])
    status_code: int | None = Field(description="The endpoint's HTTP status.")
    error: str | None
    detail: str | None
    duration_ms: float
    next_attempt_at: float | None = Field(description="When the next attempt is due, in Unix seconds.")


class AttemptLog(BaseModel):
    """Attempts, newest first."""

    result: list[Attempt]
    deliveries: dict[str, int] = Field(description="State → number of deliveries.", examples=[{"delivered": 40, "due": 2}])
