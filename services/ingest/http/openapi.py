"""The OpenAPI documents: one for our own API, and one for each vendor's. FastAPI's, completed by error answers and credentials."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.ingest.http.errors import TITLES
from shared.web.documentation import Documented
from shared.web.openapi import (
    COMMON,
    ETAG,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    KEYS,
    PREFER,
    PROBLEM_REF,
    RANGE,
    SCHEMES,
    Schema,
    add_problem,
    complete_answers,
    operations_of,
    used_components,
)

TEXT: Schema = {"type": "string"}
ALFRED: Schema = {
    "type": "object", "required": ["error", "message"], "properties": {"error": TEXT, "message": TEXT, "field": TEXT},
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
ERRORS: tuple[tuple[str, str, Schema, tuple[int, ...]], ...] = (
    ("/api/", "application/json", ALFRED, (422,)),
    ("/token", "application/json", OAUTH, ()),
    ("/transform/", "application/json", INVOPOP, (422,)),
    ("/silo/", "application/json", INVOPOP, (422,)),
    ("/utils/", "application/json", INVOPOP, (422,)),
    ("/conversion/", "application/problem+json", PROBLEM_REF, (422, 427, 500)),
    ("/v1/uploads", "application/problem+json", PROBLEM_REF, (412, 460)),
    ("/v1/", "application/problem+json", PROBLEM_REF, ()),
)
"""(path prefix, media type and schema of its errors, error statuses beside `COMMON`). The first match counts."""
OPEN = (
    "/token", "/api/tagshelf/ping", "/api/tagshelf/status", "/api/file/shared/{token}", "/silo/v1/links/{token}", "/utils/v1/ping", "/v1/about",
    "/v1/tasks/{token}/objects/{blob}", "/v1/tasks/{token}/objects/{blob:path}", "/v1/tasks/{token}/outputs/{file_name}",
    "/", "/events/stream", "/v1/webhooks", "/v1/webhooks/{rest:path}",
)  # fmt: skip
"""Paths that need no key. Those of the last line say where something else is."""
BYTES = ("download", "shared", "content", "outputs", "result/{result_id}", "links", "objects")
"""Parts of paths that answer with bytes: 200, 206, 304 and 416."""
VENDORS_REPEATABLE = ("/api/deferred/create", "/api/file/uploadfile", "/api/file/upload")
"""Calls of Alfred's dialect that take an `Idempotency-Key`. Routes of our own API name the header themselves."""
VENDORS_WAITING = ("/api/job/create",)
ALFRED_SCHEMES: Schema = {
    "key": {**SCHEMES["key"], "name": "X-TagshelfAPI-Key"},
    "bearer": SCHEMES["bearer"],
    "amx": {
        "type": "apiKey", "in": "header", "name": "Authorization",
        "description": "`amx` and the signature of an application, as Alfred's clients make it.",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """One document: the paths with these prefixes, and its credentials."""

    title: str
    prefixes: tuple[str, ...]
    description: str
    schemes: Schema


OWN = "stageline"
DIALECTS = {
    OWN: Dialect("Stageline", ("/v1",), "Documents in, typed events and results out.", SCHEMES),
    "alfred": Dialect("Stageline for clients of Alfred", ("/api", "/token"), "What Alfred's clients call.", ALFRED_SCHEMES),
    "invopop": Dialect(
        "Stageline for clients of Invopop", ("/transform", "/silo", "/utils"), "What Invopop's clients call.", SCHEMES
    ),
    "conversion": Dialect(
        "Stageline for clients of the Conversion Service", ("/conversion",), "What clients of the Pdftools Conversion Service call.", SCHEMES
    ),
}  # fmt: skip
"""Name in the document's address → the document."""


def whole_document(app: FastAPI) -> Schema:
    """One document of all dialects, from which `documents` are cut."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes, separate_input_output_schemas=False)
    add_problem(found)
    for path, method, operation in operations_of(found):
        _complete(path, method, operation)
        if path in OPEN or method == "options":
            operation["security"] = []
        else:
            keyless = path.startswith("/conversion/") and not app.state.gateway.settings.conversion_needs_key
            operation["security"] = [{}, *KEYS] if keyless else KEYS
            if path.startswith("/api/"):
                operation["security"] = [*KEYS, {"amx": []}]
    return found


def documents(app: FastAPI) -> dict[str, Schema]:
    """The OpenAPI 3.1 document of each dialect by its name. They are made once."""
    if not hasattr(app.state, "openapi_documents"):
        whole = whole_document(app)
        app.state.openapi_documents = {name: _cut(whole, dialect, app) for name, dialect in DIALECTS.items()}
    found: dict[str, Schema] = app.state.openapi_documents
    return found


def _cut(whole: Schema, dialect: Dialect, app: FastAPI) -> Schema:
    paths = {path: found for path, found in whole["paths"].items() if path.startswith(dialect.prefixes)}
    settings = app.state.gateway.settings
    public = settings.public_url
    description = dialect.description
    if dialect is DIALECTS[OWN] and settings.notifier_public_url is not None:
        description += (
            f" Webhooks and event streams are at {str(settings.notifier_public_url).rstrip('/')}, with a document of their own."
        )
    return {
        "openapi": whole["openapi"],
        "info": {"title": dialect.title, "version": whole["info"]["version"], "description": description},
        "servers": [{"url": str(public).rstrip("/") if public is not None else "/"}],
        "paths": paths,
        "components": {
            "schemas": used_components(paths, whole["components"]["schemas"]),
            "securitySchemes": dialect.schemes,
        },
    }


def _complete(path: str, method: str, operation: Schema) -> None:
    kind, schema, more = next((k, s, m) for prefix, k, s, m in ERRORS if path.startswith(prefix))
    titles = {f"_{status}": title for status, title in TITLES.items()}
    of_bytes = method == "get" and any(part in path for part in BYTES)
    complete_answers(operation, (*COMMON, *more), schema, kind, **titles)
    responses = operation["responses"]
    listed = operation.setdefault("parameters", [])
    if of_bytes:
        # 304 and 416 have no body.
        for status in (200, 206, 304, 416):
            responses.setdefault(str(status), {"description": HTTPStatus(status).phrase})
        sent = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "headers": ETAG}
        responses["200"] |= sent
        responses["206"] |= sent
        listed += [IF_NONE_MATCH, RANGE]
    if path in VENDORS_REPEATABLE and method == "post":
        listed.append(IDEMPOTENCY_KEY)
    if path in VENDORS_WAITING:
        listed.append(PREFER)
    if path.startswith("/transform/") and method in ("put", "post"):
        responses.setdefault("200", {"description": "OK"})
    if path.startswith("/conversion/") and method == "delete":
        responses.setdefault("202", {"description": "Accepted"})
    if (path.startswith("/v1/uploads/{upload_id}") and "complete" not in path) or path == "/v1/uploads":
        _tus(method, operation)
    if not listed:
        del operation["parameters"]


def _tus(method: str, operation: Schema) -> None:
    """Describe the headers of tus 1.0.0, which the routes read themselves. Its answers have no body."""
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            answer.pop("content", None)
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
    operation["parameters"] += [
        {"name": name, "in": "header", "required": True, "schema": schema} for name, schema in wanted.items()
    ]


def _of(name: str) -> Documented:
    return Documented(DIALECTS[name].title, lambda app: documents(app)[name])


OTHERS = {name: _of(name) for name in DIALECTS if name != OWN}
"""The documents beside `/openapi.json`, for `documented_app`."""


def install(app: FastAPI) -> None:
    """Make our own document that of `/openapi.json`."""
    app.openapi = lambda: documents(app)[OWN]  # type: ignore[method-assign]
