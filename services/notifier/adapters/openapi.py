"""The notifier's OpenAPI document: FastAPI's, completed by error answers, credentials and the event stream."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from shared.web.openapi import COMMON, KEYS, PROBLEM_REF, SCHEMES, Schema, add_problem, complete_answers, operations_of

DESCRIPTION = "Webhook endpoints, their delivery logs, and the event stream. The gateway's `/v1/about` names this address."
STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


def document(app: FastAPI) -> Schema:
    """The OpenAPI 3.1 document of the notifier."""
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, separate_input_output_schemas=False
    )
    add_problem(found)
    found["servers"] = [{"url": "/"}]
    found["components"]["securitySchemes"] = SCHEMES
    for path, _, operation in operations_of(found):
        complete_answers(operation, COMMON, PROBLEM_REF)
        operation["security"] = KEYS
        if path == "/events/stream":
            operation["responses"]["200"]["content"] = STREAM
    for name in ("HTTPValidationError", "ValidationError"):
        found["components"]["schemas"].pop(name, None)
    return found


def install(app: FastAPI) -> None:
    """Make this document that of `/openapi.json`."""

    def made() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]
