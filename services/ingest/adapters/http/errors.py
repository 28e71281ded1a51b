"""Errors in the dialect of the path: `{error, message}` for Alfred's, problem details (RFC 9457) for our own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from contracts.cloudevents import describe
from services.ingest.adapters.limits import OverLimit
from services.ingest.adapters.upload import BadUpload
from shared.http import failure_handlers
from shared.objects import ObjectMissing, TooLarge

TITLES = {460: "Checksum Mismatch", 427: "Option Problem"}
"""Of status codes that only protocols we speak know (tus, the Conversion Service)."""


class ApiError(Exception):
    """An answer with a status, a sentence for people and, where one field is at fault, its name."""

    def __init__(
        self, status: int, message: str, field: str | None = None, retry_after_s: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.code = code or HTTPStatus(status).name.lower()
        self.retry_after_s = retry_after_s


def shaped(request: Request, status: int, code: str, message: str, field: str | None = None) -> JSONResponse:
    """The error body in the dialect of the path."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    if request.url.path.startswith("/v1"):
        body: dict[str, Any] = {
            "type": f"urn:stageline:error:{code}",
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
    return shaped(request, 400, "invalid_request", f"{field}: {first['msg']}", field)


async def _contract(request: Request, error: Exception) -> Response:
    # A value that passed the route's own checks but not the contract's is still the caller's.
    assert isinstance(error, ValidationError)
    field = str(error.errors()[0]["loc"][0]) if error.errors()[0]["loc"] else "body"
    return shaped(request, 400, "invalid_request", describe(error), field)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = shaped(request, error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


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
        ObjectMissing: _missing, OverLimit: _over, **failure_handlers(shaped),
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
