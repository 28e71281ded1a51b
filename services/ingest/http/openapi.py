"""The OpenAPI document: FastAPI's, completed by each operation's error answers and credentials."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.ingest.http.errors import TITLES

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
ALFRED: Schema = {
    "type": "object", "required": ["error", "message"], "properties": {"error": TEXT, "message": TEXT, "field": TEXT},
}  # fmt: skip
PROBLEM: Schema = {
    "type": "object", "required": ["type", "title", "status", "detail"],
    "properties": {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "field": TEXT},
}  # fmt: skip
INVOPOP: Schema = {
    "type": "object", "required": ["code", "key", "message"],
    "properties": {"code": TEXT, "key": TEXT, "message": TEXT, "fields": {"type": "object"}},
}  # fmt: skip
OAUTH: Schema = {
    "type": "object",
    "required": ["message"],
    "properties": {"error": TEXT, "error_description": TEXT, "message": TEXT},
}
COMMON = (400, 401, 403, 404, 405, 409, 413, 415, 429, 503)
"""Error statuses that every operation may answer."""
DIALECTS: tuple[tuple[str, str, Schema, tuple[int, ...]], ...] = (
    ("/api/", "application/json", ALFRED, (422,)),
    ("/token", "application/json", OAUTH, ()),
    ("/transform/", "application/json", INVOPOP, (422,)),
    ("/silo/", "application/json", INVOPOP, (422,)),
    ("/utils/", "application/json", INVOPOP, (422,)),
    ("/conversion/", "application/problem+json", PROBLEM, (422, 427, 500)),
    ("/v1/uploads", "application/problem+json", PROBLEM, (412, 460)),
    ("/v1/", "application/problem+json", PROBLEM, ()),
)
"""(path prefix, media type and schema of its errors, error statuses beside `COMMON`). The first match counts."""
OPEN = (
    "/token", "/api/tagshelf/ping", "/api/tagshelf/status", "/api/file/shared/{token}", "/silo/v1/links/{token}", "/utils/v1/ping",
    "/v1/tasks/{token}/objects/{blob}", "/v1/tasks/{token}/objects/{blob:path}", "/v1/tasks/{token}/outputs/{file_name}",
)  # fmt: skip
BYTES = ("download", "shared", "content", "outputs", "result/{result_id}", "links", "objects")
"""Parts of paths that answer with bytes: 200, 206, 304 and 416."""
KEYS: list[dict[str, list[str]]] = [{"key": []}, {"bearer": []}]
SCHEMES: Schema = {
    "key": {"type": "apiKey", "in": "header", "name": "X-TagshelfAPI-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def document(app: FastAPI) -> Schema:
    """The OpenAPI 3.1 document of the gateway."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    found.setdefault("components", {})["securitySchemes"] = SCHEMES
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
            if path in OPEN or method == "options":
                operation["security"] = []
            else:
                keyless = path.startswith("/conversion/") and not app.state.gateway.settings.conversion_needs_key
                operation["security"] = [{}, *KEYS] if keyless else KEYS
    return found


def _complete(path: str, method: str, operation: Schema) -> None:
    kind, schema, more = next((k, s, m) for prefix, k, s, m in DIALECTS if path.startswith(prefix))
    responses = operation["responses"]
    # FastAPI documents its own validation error. Ours is a 400 in the dialect's shape.
    responses.pop("422", None)
    for status in (*COMMON, *more):
        described = responses.setdefault(str(status), {"description": TITLES.get(status) or HTTPStatus(status).phrase})
        described["content"] = {kind: {**described.get("content", {}).get(kind, {}), "schema": schema}}
    if method == "get" and any(part in path for part in BYTES):
        for status in (200, 206, 304, 416):
            responses.setdefault(str(status), {"description": HTTPStatus(status).phrase})
        responses["200"]["content"] = {"application/octet-stream": {}}
        responses["206"]["content"] = {"application/octet-stream": {}}
    if path.startswith("/transform/") and method in ("put", "post"):
        responses.setdefault("200", {"description": "OK"})
    if path.startswith("/conversion/") and method == "delete":
        responses.setdefault("202", {"description": "Accepted"})
    if (path.startswith("/v1/uploads/{upload_id}") and "complete" not in path) or path == "/v1/uploads":
        _tus(method, operation)


def _tus(method: str, operation: Schema) -> None:
    """Describe the headers of tus 1.0.0, which the routes read themselves."""
    number = {"type": "string", "pattern": "^[0-9]{1,15}$"}
    wanted: dict[str, Schema] = {} if method == "options" else {"Tus-Resumable": {"type": "string", "enum": ["1.0.0"]}}
    if method == "post":
        wanted |= {"Upload-Length": number, "Upload-Metadata": TEXT}
    if method == "patch":
        wanted["Upload-Offset"] = number
        operation["requestBody"] = {
            "required": True,
            "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    listed = operation.setdefault("parameters", [])
    listed += [{"name": name, "in": "header", "required": True, "schema": schema} for name, schema in wanted.items()]


def install(app: FastAPI) -> None:
    """Serve this document at `/openapi.json`."""

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
