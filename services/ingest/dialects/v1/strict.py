"""Types of our own API's bodies: a number is a number, not `true` and not text, and a time is RFC 3339. The vendors' dialects are loose."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, Strict

from contracts import JobStage


def _time(value: Any) -> Any:
    if isinstance(value, (int, float)) or (isinstance(value, str) and value.replace(".", "", 1).lstrip("+-").isdigit()):
        raise ValueError("a time as in RFC 3339 is expected")
    return value


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _known(value: str) -> str:
    if value not in STAGES:
        raise ValueError(f"one of {', '.join(STAGES)} is expected")
    return value


STAGES = [stage.value for stage in JobStage if stage.known]
Stage = Annotated[str, Field(json_schema_extra={"enum": [*STAGES]}), AfterValidator(_known)]
"""One of the stages that there are; readers of events take others too, but nobody can look for them."""
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
Moment = Annotated[AwareDatetime, BeforeValidator(_time)]
Measured = Annotated[float, BeforeValidator(_no_flag)]
"""A number that may also come in a query."""
