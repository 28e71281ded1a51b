"""Errors in the shape of the path's dialect: `{error, message}` for Alfred's, problem details (RFC 9457) for our own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from contracts.field_names import reason_of
from contracts.public_text import public_text
from services.ingest.adapters.store.quotas import OverLimit, Rate
from services.ingest.core import tus
from services.ingest.core.job_filter import BadFilter
from services.ingest.http.multipart import BadUpload
from shared import clock
from shared.objects.access import ObjectMissing
from shared.objects.object_store import TooLarge
from shared.objects.verified_reads import ObjectDamaged
from shared.web.concurrency import RETRY_AFTER_S, TooMany
from shared.web.invalid_requests import faults_of
from shared.web.middleware import failure_handlers
from shared.web.paths import routes_of
from shared.web.problem import problem_answer

TITLES = {460: "Checksum Mismatch", 427: "Option Problem"}
"""Titles of status codes that only tus and the Conversion Service define."""


class ApiError(Exception):
    """An error answer: a status, a sentence for people and, where one field is at fault, its name."""

    def __init__(
        self, status: int, message: str, field: str | None = None, retry_after_s: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.code = code or HTTPStatus(status).name.lower()
        self.retry_after_s = retry_after_s


class Unprocessable(ApiError):
    """Several wrong fields, each with its reason (Invopop's dialect)."""

    def __init__(self, fields: dict[str, str]) -> None:
        name, reason = next(iter(fields.items()))
        super().__init__(422, f"{name}: {reason}", name, code="validation")
        self.fields = fields


def _invopop(status: int, code: str, message: str, fields: dict[str, str] | None) -> JSONResponse:
    """`{code, key, message, fields}`: older clients read `code`, newer ones `key`."""
    body: dict[str, Any] = {"code": code, "key": code, "message": public_text(message)}
    shown = {name: public_text(reason) for name, reason in (fields or {}).items()}
    return JSONResponse(body | ({"fields": nested(shown)} if shown else {}), status)


MAX_FIELDS = 100
"""Most faults that one answer names."""


def nested(fields: dict[str, str]) -> dict[str, Any]:
    """`{"steps.0.id": "…"}` as nested objects.

    A message about a field that also has inner fields stands under the empty name. Field names may contain dots, so one path can
    lead through another.
    """
    found: dict[str, Any] = {}
    for path, message in list(fields.items())[:MAX_FIELDS]:
        place = found
        *parents, last = path.split(".")
        for part in parents:
            inner = place.get(part, {})
            place[part] = inner if isinstance(inner, dict) else {"": inner}
            place = place[part]
        if isinstance(place.get(last), dict):
            place[last][""] = message
        else:
            place[last] = message
    return found


UPLOADS = "/v1/uploads"
INVOPOP = ("/transform/", "/silo/", "/utils/", "/sequence/", "/access/")
PDFTOOLS = "http://www.pdf-tools.com/service/rest/errors/"
"""Prefix of the Conversion Service's problem types. The vendor documents `jobNotFound` alone."""
PDFTOOLS_TITLES = {"jobNotFound": "Job not found."}
"""Code of such a problem → its documented title."""


def shaped(request: Request, status: int, code: str, message: str, field: str | None = None) -> JSONResponse:
    """The error answer in the shape of the path's dialect."""
    answer = _shaped(request, status, code, public_text(message), field)
    if request.url.path.startswith(UPLOADS):
        # Every answer of a tus server has its version; to another version it names those that it knows.
        answer.headers["tus-resumable"] = tus.VERSION
        if status == HTTPStatus.PRECONDITION_FAILED:
            answer.headers["tus-version"] = tus.VERSION
    return answer


def _shaped(request: Request, status: int, code: str, message: str, field: str | None) -> JSONResponse:
    title = TITLES.get(status) or HTTPStatus(status).phrase
    if request.url.path.startswith(INVOPOP):
        return _invopop(status, code, message, {field: message.removeprefix(f"{field}: ")} if field else None)
    if request.url.path.startswith("/conversion/"):
        return problem_answer(status, code, message, field, PDFTOOLS_TITLES.get(code, title), PDFTOOLS)
    if request.url.path.startswith(("/v1", "/events")):
        return problem_answer(status, code, message, field, title)
    body = {"error": title, "message": message}
    return JSONResponse(body | ({"field": field} if field else {}), status)


async def api_error(request: Request, error: Exception) -> Response:
    """The answer to an `ApiError`."""
    assert isinstance(error, ApiError)
    if isinstance(error, Unprocessable):
        return _invopop(error.status, error.code, error.message, error.fields)
    answer = shaped(request, error.status, error.code, error.message, error.field)
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


async def invalid(request: Request, error: Exception) -> Response:
    """The answer to a request that does not match its route's model."""
    assert isinstance(error, RequestValidationError)
    faults = faults_of(error)
    field, reason = faults[0]
    if request.url.path.startswith(INVOPOP):
        return _invopop(422, "validation", f"{field}: {reason}", dict(faults))
    return shaped(request, 400, "invalid_request", f"{field}: {reason}", field)


async def _contract(request: Request, error: Exception) -> Response:
    # The value passed the route's checks but not the contract's: still the caller's error.
    assert isinstance(error, ValidationError)
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "body"
    return shaped(request, 400, "invalid_request", f"{field}: {reason_of(first)}", field)


async def _filter(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadFilter)
    return shaped(request, 400, "bad_request", str(error), error.field)


async def http_error(request: Request, error: Exception) -> Response:
    """The answer to an error of the framework, such as an unknown path."""
    assert isinstance(error, HTTPException)
    answer = shaped(request, error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        # The framework's own header names the methods of the first matching route only.
        known = set(routes_of(request.app).methods(request.scope["path"]))
        answer.headers["allow"] = ", ".join(sorted(known | {"HEAD"} if "GET" in known else known))
    return answer


async def _over(request: Request, error: Exception) -> Response:
    assert isinstance(error, OverLimit)
    if error.per_minute is not None:
        request.state.rate = Rate(error.per_minute, 0, int(clock.unix()) + error.retry_after_s)
    answer = shaped(request, 429, "over_limit", str(error))
    answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


async def _many(request: Request, error: Exception) -> Response:
    assert isinstance(error, TooMany)
    answer = shaped(request, error.status, error.code, str(error))
    answer.headers["retry-after"] = str(RETRY_AFTER_S)
    return answer


async def _large(request: Request, error: Exception) -> Response:
    return shaped(request, 413, "too_large", str(error), "file")


async def _upload(request: Request, error: Exception) -> Response:
    return shaped(request, 400, "invalid_request", str(error), str(error).partition(":")[0])


async def _missing(request: Request, error: Exception) -> Response:
    # The error names the object, which is the operator's to know.
    return shaped(request, 404, "not_found", "The content is no longer there.")


async def _damaged(request: Request, error: Exception) -> Response:
    return shaped(
        request, 500, "object_damaged", "The stored content is damaged: its hash is wrong. The operator's log names it."
    )


def install(app: FastAPI) -> None:
    """Register every handler."""
    handlers: dict[Any, Any] = {
        ApiError: api_error, RequestValidationError: invalid, ValidationError: _contract, HTTPException: http_error, TooLarge: _large,
        BadUpload: _upload, ObjectMissing: _missing, ObjectDamaged: _damaged, BadFilter: _filter, OverLimit: _over, TooMany: _many, **failure_handlers(shaped),
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
