"""What the OpenAPI documents of all our HTTP APIs have in common: operation ids, credentials, header parameters, problems, servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from shared.web.problem import MEDIA_TYPE, Problem

Schema = dict[str, Any]
KEY_HEADER = "X-API-Key"
"""The header that we name for keys. `shared.web.api_keys` lists the others that are accepted."""
SCHEMES: Schema = {
    "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "A key that `POST /v1/keys` issued."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same key, or a token from `POST /token`."},
}
KEYS: list[dict[str, list[str]]] = [{"key": []}, {"bearer": []}]
COMMON = (400, 401, 403, 404, 405, 409, 413, 415, 429, 503)
"""Error statuses that every operation may answer."""
COMPONENT = "#/components/schemas/"
PROBLEM_REF: Schema = {"$ref": f"{COMPONENT}Problem"}


def _header(name: str, description: str, **schema: Any) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string", **schema}}


IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "Makes the call repeatable: the same key with the same request makes nothing new. With another request it is 409.",
    maxLength=200,
)
PREFER = _header(
    "Prefer",
    "`wait=N`: answer when the job has ended, or after N seconds (at most 60) with its present state.",
    examples=["wait=30"],
)
IF_NONE_MATCH = _header("If-None-Match", "An `ETag` that the caller has. 304 when the content is the same.")
RANGE = _header("Range", "A part of the content, as `bytes=first-last`.", examples=["bytes=0-1023"])
REPEATABLE: Schema = {"parameters": [IDEMPOTENCY_KEY]}
WAITING: Schema = {"parameters": [PREFER]}
REPEATABLE_AND_WAITING: Schema = {"parameters": [IDEMPOTENCY_KEY, PREFER]}
"""Values of a route's `openapi_extra`."""
ETAG: Schema = {"ETag": {"description": "The hash of the content, in quotation marks.", "schema": {"type": "string"}}}


def answered(model: type[BaseModel], status: int = 200, example: Any = None) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route whose answer is a `model`. It is published, not applied: a test holds answers against it."""
    found: dict[str, Any] = {"model": model}
    if example is not None:
        found["content"] = {"application/json": {"example": example}}
    return {status: found}


def operation_id(route: APIRoute) -> str:
    """An id for an operation that names none: its method and path, as `getApiJobDetailByJobId`."""
    method = min(route.methods or {"get"}).lower()
    path = re.sub(r"{(\w+)[^}]*}", r"by/\1", route.path_format)
    return method + "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", path))


def operations_of(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    """(path, method, operation) of a document."""
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield path, method, operation


def complete_answers(operation: Schema, statuses: Iterable[int], schema: Schema, media: str = MEDIA_TYPE, **titles: str) -> None:
    """Give an operation its error answers. FastAPI's own validation error goes: ours is 400. A model alone is the schema."""
    responses = operation["responses"]
    responses.pop("422", None)
    for status in statuses:
        described = responses.setdefault(str(status), {"description": titles.get(f"_{status}") or HTTPStatus(status).phrase})
        described["content"] = {media: {**described.get("content", {}).get(media, {}), "schema": schema}}
    for described in responses.values():
        for content in described.get("content", {}).values():
            if "$ref" in content.get("schema", {}):
                content["schema"] = {"$ref": content["schema"]["$ref"]}


def add_problem(document: Schema) -> None:
    """Add the one model of errors to the document's schemas."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template=f"{COMPONENT}{{model}}")


def used_components(paths: Mapping[str, Any], components: Mapping[str, Any]) -> Schema:
    """The schemas that the paths name, also by way of other schemas."""
    found: Schema = {}
    waiting = list(_names(paths))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = components[name]
            waiting += _names(components[name])
    return dict(sorted(found.items()))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(COMPONENT)
        for inner in value.values():
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
