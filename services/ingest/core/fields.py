"""Types of request fields that several dialects share. Pure.

The types of our own API are strict: a number is neither `true` nor text, and a time is RFC 3339. The vendors' dialects are lenient.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, Strict

from contracts import JobStage
from contracts.identity import plain_id
from contracts.loose import check_json, check_metadata
from services.ingest.core.workflow_readers import PRIVATE

STAGES = [stage.value for stage in JobStage if stage.known]


def _time(value: Any) -> Any:
    if isinstance(value, (int, float)) or (isinstance(value, str) and value.replace(".", "", 1).lstrip("+-").isdigit()):
        raise ValueError("a time as in RFC 3339 is expected")
    return value


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _known_stage(value: str) -> str:
    if value not in STAGES:
        raise ValueError(f"one of {', '.join(STAGES)} is expected")
    return value


def _public(name: str) -> str:
    if name.startswith(PRIVATE):
        raise ValueError("names that begin with tenant. belong to another dialect")
    return name


Stage = Annotated[str, Field(json_schema_extra={"enum": [*STAGES]}), AfterValidator(_known_stage)]
"""A job stage that this release defines. Events may carry other stages; a search accepts only these."""
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
Moment = Annotated[AwareDatetime, BeforeValidator(_time)]
Measured = Annotated[float, BeforeValidator(_not_boolean)]
"""A number in a body or in a query string, where every value is text."""
Meta = Annotated[dict[str, Any] | list[Any] | str | None, BeforeValidator(check_metadata), Field(description="Free metadata")]
Json = Annotated[dict[str, Any], BeforeValidator(check_json)]
"""An object of any fields, as every reader of JSON can read it."""
Arguments = Annotated[dict[str, dict[str, Any]], BeforeValidator(check_json)]
"""Step → settings."""
Id = Annotated[str, Field(max_length=200), AfterValidator(plain_id)]
"""An id of ours. Clients may write a UUID in capital letters."""
WorkflowName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_public)]
"""Name of a published workflow. Workflows of a tenant in Invopop's dialect run through that dialect only."""
