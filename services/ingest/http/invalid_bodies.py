"""Bodies that are not JSON: the framework finds the fault before it asks for the caller, so that the caller is proven here."""

from __future__ import annotations

from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.ingest.adapters.gateway import Gateway
from services.ingest.http import errors
from services.ingest.http.authentication import authenticate
from services.ingest.http.dependencies import NEEDS_KEY
from services.ingest.http.errors import ApiError


def install(app: FastAPI, gateway: Gateway) -> None:
    """Answer a body that is not JSON with 401 to an unproven caller, and with the fault to others."""

    async def refusal(request: Request) -> Response | None:
        try:
            if await authenticate(request, gateway) is None:
                raise ApiError(401, NEEDS_KEY)
        except ApiError as refused:
            return await errors.api_error(request, refused)
        return None

    async def invalid(request: Request, error: Exception) -> Response:
        faults = cast(RequestValidationError, error).errors()
        unparsed = any(fault["type"] == "json_invalid" for fault in faults)
        return (await refusal(request) if unparsed else None) or await errors.invalid(request, error)

    async def unreadable(request: Request, error: Exception) -> Response:
        # The framework's answer to a body that is no text, or nested too deeply. Our own routes raise `ApiError`.
        unparsed = cast(HTTPException, error).status_code == 400
        return (await refusal(request) if unparsed else None) or await errors.http_error(request, error)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unreadable)
