"""What holds for every route of every HTTP API, in every dialect. The tables are made from the applications' own routes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import Receive, Scope, Send

from contracts.field_names import field_of
from services.ingest.http.openapi import documents
from tests.gateway_app import BASE, gateway_app
from tests.notifier_app import notifier_app

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
UUID = "0f767925-b464-4ffa-b621-1a0aeacac256"
WRONG: list[Any] = [3, "x", [], [[1]], [{"a": []}], {"a": {"b": [1]}}]


class Seen:
    """Passes requests on, and remembers the scope of the last one, with the route that took it."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await self.app(scope, receive, send)

    @property
    def taken(self) -> tuple[str, dict[str, str]]:
        """The handler and path parameters of the last request."""
        endpoint = self.scope.get("endpoint")
        return getattr(endpoint, "__qualname__", "none"), dict(self.scope.get("path_params", {}))


class Api:
    """An application, a client with the key of an administrator, and its operations."""

    def __init__(self, app: FastAPI, key: str, answers_head: bool = False) -> None:
        self.app, self.seen, self.answers_head = app, Seen(app), answers_head
        transport = httpx.ASGITransport(self.seen, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=BASE, headers={"x-api-key": key})
        self.routes = [r for r in iter_route_contexts(app.routes) if r.methods and str(r.path).startswith("/")]

    def operations(self) -> Iterator[tuple[str, str]]:
        """Method and path pattern of every route."""
        for route in self.routes:
            for method in sorted(route.methods or ()):
                yield method, str(route.path)

    def methods(self, path: str) -> set[str]:
        """The methods of a path, by the patterns of all routes."""
        known = {method for r in self.routes if r.path_regex.match(path) for method in r.methods or ()}
        return known | {"HEAD"} if self.answers_head and "GET" in known else known

    def documents(self) -> list[dict[str, Any]]:
        """Every OpenAPI document of the application."""
        return list(documents(self.app).values()) if self.answers_head else [self.app.openapi()]

    def documented(self) -> Iterator[tuple[dict[str, Any], str, str, dict[str, Any]]]:
        """Document, path, method and operation, of every document."""
        for document in self.documents():
            for pattern, operations in document["paths"].items():
                for method, operation in operations.items():
                    yield document, pattern, method, operation

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, f"{BASE}{path}", timeout=20, **more)


def filled(pattern: str, value: str = UUID) -> str:
    return re.sub(r"{(\w+)[^}]*}", value, pattern)


def plain(pattern: str) -> str:
    return filled(pattern).rstrip("/") or "/"


@pytest.fixture(scope="module", params=["gateway", "notifier"])
async def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    tmp_path = tmp_path_factory.mktemp("api")
    if request.param == "gateway":
        async with gateway_app(tmp_path, requests_per_minute=1_000_000) as made:
            yield Api(made.app, await made.key("admin", "default"), answers_head=True)
    else:
        async with notifier_app(tmp_path) as (app, key):
            yield Api(app, key)


async def test_a_method_that_a_path_has_not_is_answered_with_those_that_it_has(api: Api) -> None:
    for path in sorted({plain(pattern) for _, pattern in api.operations()}):
        known = api.methods(path)
        for method in set(METHODS) - known:
            answer = await api.ask(method, path)
            assert answer.status_code == 405, (method, path, answer.text)
            assert answer.headers["allow"] == ", ".join(sorted(known)) != "", (method, path)


async def test_slashes_that_clients_add_change_nothing(api: Api) -> None:
    for method, pattern in api.operations():
        if method == "OPTIONS" or pattern.startswith("/docs"):
            continue
        path = plain(pattern)
        await api.ask(method, path)
        taken = api.seen.taken
        assert taken[0] != "none", (method, path)
        for written in (f"{path}/", f"/{path}//".replace("v1/", "v1//")):
            answer = await api.ask(method, written, content=b"{")
            assert api.seen.taken == taken and not answer.is_redirect, (method, written, api.seen.taken, taken)


async def test_every_path_that_ends_with_a_slash_has_a_twin_without(api: Api) -> None:
    patterns = {(method, pattern) for method, pattern in api.operations()}
    assert [p for p in patterns if p[1] != "/" and p[1].endswith("/") and (p[0], p[1].rstrip("/")) not in patterns] == []


async def test_the_documentation_has_one_address(api: Api) -> None:
    answer = await api.ask("GET", "/docs/")
    assert (answer.status_code, answer.headers["location"]) == (307, "../docs"), "links of the page are relative to it"
    assert (await api.ask("GET", "/docs")).status_code == 200


async def test_a_slash_within_a_name_stays(api: Api) -> None:
    for path in ("/silo/v1/entries/key/a%2F%2Fb%2F", "/v1/webhooks/a%2F%2Fb/log"):
        await api.ask("GET", path)
        assert "//b" not in api.seen.scope["path"] or api.seen.scope["path"].endswith(("a//b/", "a//b/log"))
        assert api.seen.scope["raw_path"] == path.encode()


async def test_a_signature_covers_the_path_as_the_client_wrote_it(tmp_path: Path) -> None:
    async with gateway_app(tmp_path) as made, made.http() as http:
        app = await made.application()
        for path in (
            "/api/tagshelf/who-am-i",
            "/api/tagshelf/who-am-i/",
            "/api//tagshelf/who-am-i",
            f"/api/job/detail/{UUID.upper()}",
        ):
            answer = await http.get(path, headers={"authorization": app.sign("GET", f"{BASE}{path}", None)})
            assert answer.status_code == (404 if "job" in path else 200), (path, answer.text)


async def test_paths_under_socket_io_are_its_own(tmp_path: Path) -> None:
    async with notifier_app(tmp_path) as (app, key):
        api = Api(app, key)
        for path in ("/socket.io", "/socket.io/", "/socket.io/x/"):
            assert (await api.ask("GET", path)).text == "socket", path
            assert api.seen.scope["path"] == (path if path != "/socket.io" else "/socket.io/")


async def test_an_id_is_the_same_in_capital_letters(api: Api) -> None:
    for method, pattern in api.operations():
        await api.ask(method, filled(pattern).rstrip("/") or "/")
        small = api.seen.taken
        await api.ask(method, filled(pattern, UUID.upper()).rstrip("/") or "/")
        name, given = api.seen.taken
        expected = {
            k: v if k.endswith("_id") and k not in ("tenant_id", "connection_id") else str(v).upper() for k, v in small[1].items()
        }
        assert (name, given) == (small[0], expected), (method, pattern)


async def test_compressed_bodies_are_refused(api: Api) -> None:
    for method, pattern in api.operations():
        if pattern.startswith("/docs") or pattern == "/openapi.json":
            continue
        answer = await api.ask(method, plain(pattern), content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity"), (method, pattern, answer.text)
        if method != "HEAD":
            body = answer.json()
            assert "Content-Encoding" in (body.get("message") or body["detail"])
        for coding in ("identity", ""):
            same = await api.ask(method, plain(pattern), content=b"{}", headers={"content-encoding": coding})
            assert "Content-Encoding" not in same.text, (method, pattern)


def whole(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One body of an operation that has all its fields."""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        named = next((s["$ref"] for s in (schema, *schema.get("anyOf", ())) if "$ref" in s), None)
        known = document["components"]["schemas"][named.rpartition("/")[2]] if named else schema
        yield dict.fromkeys(known.get("properties", ()), UUID)


def bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[tuple[Any, bytes]]:
    """Bodies of an operation, each with one value of a wrong kind, and texts that are no JSON."""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return
    schema = content["application/json"]["schema"]
    named = next((s["$ref"] for s in (schema, *schema.get("anyOf", ())) if "$ref" in s), None)
    known = document["components"]["schemas"][named.rpartition("/")[2]] if named else schema
    names = list(known.get("properties", ()))
    for name, value in itertools.product(names, WRONG):
        others = {other: UUID for other in known.get("required", ()) if other != name}
        sent = {**others, name: value, **({name: {"tag": {"x": []}}} if value == [] else {})}
        yield sent, json.dumps(sent).encode()
    for value in ([], 1, None, "x", {}):
        yield value, json.dumps(value).encode()


async def test_a_faulty_field_has_the_name_that_the_client_sent(api: Api) -> None:
    faults = 0
    for document, pattern, method, operation in api.documented():
        for sent, body in bodies(document, operation):
            answer = await api.ask(method.upper(), plain(pattern), content=body, headers={"content-type": "application/json"})
            if answer.status_code not in (400, 422):
                continue
            faults += 1
            said = answer.json()
            assert is_named(said, sent), (method, pattern, sent, said)
    assert faults > (500 if api.answers_head else 20)


def is_named(said: dict[str, Any], sent: Any) -> bool:
    """True when an error names a field that the body holds, one that it lacks, or the body."""
    text = said.get("message") or said.get("detail") or ""
    assert not re.search(r"\w\[|constrained|function-|Input should be a valid dictionary or", text.partition(":")[0]), text
    for field in [said["field"]] if "field" in said else [".".join(way) for way in ways(said.get("fields", {}))]:
        *above, last = (int(part) if part.isdigit() else part for part in field.split("."))
        # The last part may be a field that is missing.
        if field != "body" and field_of([*above, last], "missing", sent) != field:
            return False
    return True


def ways(fields: dict[str, Any]) -> Iterator[list[str]]:
    for name, inner in fields.items():
        if isinstance(inner, dict):
            yield from ([name, *rest] if rest != [""] else [name] for rest in ways(inner))
        else:
            yield [name]


HOSTILE = ("NaN", '"\\ud800"', '{"\\ud800": 1}', "[" * 900 + "]" * 900)


async def test_no_value_of_a_field_is_a_fault_of_ours(api: Api) -> None:
    for document, pattern, method, operation in api.documented():
        for sent, value in itertools.product(whole(document, operation), HOSTILE):
            for body in (value, *(nested(sent, name, value) for name in sent)):
                headers = {"content-type": "application/json"}
                answer = await api.ask(method.upper(), plain(pattern), content=body.encode(), headers=headers)
                assert answer.status_code < 500, (method, pattern, body[:300], answer.text)


def nested(sent: dict[str, Any], name: str, value: str) -> str:
    """The body with a JSON text as the value of a field, and within an object there."""
    return json.dumps({**sent, name: "VALUE"}).replace('"VALUE"', value)


@pytest.mark.parametrize("body", [b'{"a": 1', b"{nope", b"[1,", b"\xff", b'"'])
async def test_a_body_that_is_no_json_is_the_body(api: Api, body: bytes) -> None:
    for _, pattern, method, operation in api.documented():
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            answer = await api.ask(method.upper(), plain(pattern), content=body, headers={"content-type": "application/json"})
            said = answer.json()
            assert answer.status_code in (400, 401, 422), (method, pattern, said)
            assert said.get("field", "body") == "body" and set(said.get("fields", {"body": 0})) == {"body"}, (pattern, said)
