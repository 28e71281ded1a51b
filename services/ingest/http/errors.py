"""Errors in the shape of the path's dialect: `{error, message}` for Alfred's, problem details (RFC 9457) for our own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.cloudevents import describe
from services.ingest.adapters.store.quotas import OverLimit
from services.ingest.core.job_filter import BadFilter
from services.ingest.http.multipart import BadUpload
from shared.objects.object_store import ObjectMissing, TooLarge
from shared.web.middleware import failure_handlers

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
    body: dict[str, Any] = {"code": code, "key": code, "message": message}
    return JSONResponse(body | ({"fields": nested(fields)} if fields else {}), status)


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


INVOPOP = ("/transform/", "/silo/")
PDFTOOLS = "http://www.pdf-tools.com/service/rest/errors/"
"""Prefix of the Conversion Service's problem types. The vendor documents `jobNotFound` alone."""


def shaped(request: Request, status: int, code: str, message: str, field: str | None = None) -> JSONResponse:
    """The error answer in the shape of the path's dialect."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    if request.url.path.startswith(INVOPOP):
        return _invopop(status, code, message, {field: message.removeprefix(f"{field}: ")} if field else None)
    conversion = request.url.path.startswith("/conversion/")
    if conversion or request.url.path.startswith("/v1"):
        body: dict[str, Any] = {
            "type": f"{PDFTOOLS if conversion else 'urn:stageline:error:'}{code}",
            "title": title,
            "status": status,
            "detail": message,
        }
        if field:
            body["field"] = field
        return JSONResponse(body, status, media_type="application/problem+json")
    body = {"error": title, "message": message}
    return JSONResponse(body | ({"field": field} if field else {}), status)


async def _api(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    if isinstance(error, Unprocessable):
        return _invopop(error.status, error.code, error.message, error.fields)
    answer = shaped(request, error.status, error.code, error.message, error.field)
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")) or "body"
    if request.url.path.startswith(INVOPOP):
        said = {".".join(str(p) for p in e["loc"][1:]) or "body": str(e["msg"]) for e in error.errors()}
        return _invopop(422, "validation", f"{field}: {first['msg']}", said)
    return shaped(request, 400, "invalid_request", f"{field}: {first['msg']}", field)


async def _contract(request: Request, error: Exception) -> Response:
    # The value passed the route's checks but not the contract's: still the caller's error.
    assert isinstance(error, ValidationError)
    field = str(error.errors()[0]["loc"][0]) if error.errors()[0]["loc"] else "body"
    return shaped(request, 400, "invalid_request", describe(error), field)


async def _filter(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadFilter)
    return shaped(request, 400, "bad_request", str(error), error.field)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = shaped(request, error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["allow"] = ", ".join(sorted(_methods(request)))
    return answer


def _methods(request: Request) -> set[str]:
    """All methods of the path. The framework's own `Allow` header names those of the first matching route only."""
    path = request.scope["path"]
    matching = (r for r in request.app.routes if isinstance(r, Route) and r.path_regex.match(path))
    return {method for route in matching for method in route.methods or ()}


async def _over(request: Request, error: Exception) -> Response:
    assert isinstance(error, OverLimit)
    answer = shaped(request, 429, "over_limit", str(error))
    answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


async def _large(request: Request, error: Exception) -> Response:
    return shaped(request, 413, "too_large", str(error), "file")


async def _upload(request: Request, error: Exception) -> Response:
    return shaped(request, 400, "invalid_request", str(error), str(error).partition(":")[0])


async def _missing(request: Request, error: Exception) -> Response:
    return shaped(request, 404, "not_found", str(error))


def install(app: FastAPI) -> None:
    """Register every handler."""
    handlers: dict[Any, Any] = {
        ApiError: _api, RequestValidationError: _invalid, ValidationError: _contract, HTTPException: _http, TooLarge: _large, BadUpload: _upload,
        ObjectMissing: _missing, BadFilter: _filter, OverLimit: _over, **failure_handlers(shaped),
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
