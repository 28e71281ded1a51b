"""Problem details (RFC 9457): the one shape of an error of our own HTTP APIs, as a published model and as an answer."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from contracts.public_text import public_text

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:stageline:error:"
"""Prefix of `type`. The code after it is stable; docs/reference/error-codes.md lists the codes."""


class Problem(BaseModel):
    """An error. Programs decide by `type` and `status`; `detail` is a sentence for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:stageline:error:invalid_request", "title": "Bad Request", "status": 400,
                    "detail": "priority: one of low, normal, high is expected", "field": "priority",
                }
            ]
        }
    )  # fmt: skip

    type: str = Field(description="`urn:stageline:error:` and the error's code.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status, again.")
    detail: str = Field(description="What is wrong, and what to do about it where that is known.")
    field: str | None = Field(default=None, description="The field at fault, as the request wrote it.")


def problem_answer(
    status: int, code: str, message: str, field: str | None = None, title: str | None = None, prefix: str = PREFIX
) -> JSONResponse:
    """The answer for an error. `title`: for a status that HTTP does not define; `prefix`: that of another vendor's problems."""
    found = Problem(
        type=f"{prefix}{code}", title=title or HTTPStatus(status).phrase, status=status, detail=public_text(message), field=field
    )
    return JSONResponse(found.model_dump(exclude_none=True), status, media_type=MEDIA_TYPE)
