"""Without a key, the Conversion Service's dialect takes programs of this machine alone, and they are nobody's tenant but their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from services.ingest.dialects.pdftools import common
from services.ingest.dialects.pdftools.keyless import KEYLESS, refusal
from services.ingest.dialects.routes import ROUTERS
from services.ingest.http import errors
from services.ingest.http.dependencies import PLATFORM_TENANT
from services.ingest.settings import IngestSettings
from shared.settings import Settings
from shared.web.cross_origin import allow_pages

LISTED = "https://app.example.com"
HOST = ("host", "127.0.0.1:8080")


def request(*headers: tuple[str, str], client: str = "127.0.0.1", version: str = "1.1") -> Request:
    raw = [(n.encode(), v.encode("latin-1")) for n, v in headers]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": raw, "client": (client, 1), "http_version": version}
    return Request({**scope, "scheme": "http", "query_string": b""})


@pytest.mark.parametrize(
    "headers",
    [
        (HOST,), (("host", "localhost"),), (("host", "[::1]:8080"),), (HOST, ("origin", "http://127.0.0.1:8080")),
        (("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")),
        (HOST, ("sec-fetch-site", "none")), (HOST, ("origin", LISTED), ("sec-fetch-site", "cross-site")),
        (HOST, ("postman-token", "x"), ("user-agent", "PostmanRuntime/7.43.0")),
    ],
)  # fmt: skip
def test_programs_of_this_machine(headers: tuple[tuple[str, str], ...]) -> None:
    assert refusal(request(*headers), (LISTED,)) is None


@pytest.mark.parametrize(
    "headers",
    [
        (HOST, ("origin", "null")), (HOST, ("origin", "file://")), (HOST, ("origin", "chrome-extension://abcdefgh")),
        (HOST, ("origin", "moz-extension://1b2c")), (HOST, ("origin", "https://evil.example")), (HOST, ("origin", "")),
        (HOST, ("origin", "http://localhost:3000")), (HOST, ("origin", "http://127.0.0.1:8081")),
        (HOST, ("origin", f"{LISTED}.evil.example")), (HOST, ("origin", "http://127.0.0.1:8080"), ("origin", "https://evil.example")),
        (HOST, ("sec-fetch-site", "cross-site")), (HOST, ("sec-fetch-site", "same-site")), (HOST, ("sec-fetch-site", "Cross-Site")),
        (HOST, ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "cross-site")),
        (("host", "rebound.example"),), (("host", "rebound.example:8080"),), (("host", "127.0.0.1.evil.example"),),
        (("host", "127.0.0.1@evil.example"),), (HOST, ("host", "evil.example")), (("host", "["),), (),
        (HOST, ("x-forwarded-for", "203.0.113.9")), (HOST, ("x-forwarded-proto", "https")), (HOST, ("forwarded", "for=1.2.3.4")),
        (HOST, ("via", "1.1 proxy")), (HOST, ("x-real-ip", "203.0.113.9")),
    ],
)  # fmt: skip
def test_pages_and_strangers_need_a_key(headers: tuple[tuple[str, str], ...]) -> None:
    assert refusal(request(*headers), (LISTED,)) is not None


def test_other_machines_and_bare_proxies_need_a_key() -> None:
    assert refusal(request(HOST, client="203.0.113.9"), ()) is not None
    assert refusal(request(HOST, version="1.0"), ()) is not None


def test_they_are_a_tenant_of_their_own() -> None:
    assert KEYLESS.tenant_id not in ("", PLATFORM_TENANT) and KEYLESS.role == "producer"
    assert IngestSettings().conversion_needs_key, "a key is needed unless the operator says otherwise"


EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"


def test_origins_are_listed_one_by_one() -> None:
    assert Settings(cors_origins=("HTTPS://App.Example.com/",)).cors_origins == ("https://app.example.com",)
    assert Settings(cors_origins=(f"{EXTENSION}/",)).cors_origins == (EXTENSION,)
    assert Settings(cors_origins=("moz-extension://1b2c3d4e-0000-4000-8000-0123456789ab",)).cors_origins
    for wrong in (
        "chrome-extension://",
        "chrome-extension://*",
        "moz-extension://x",
        f"{EXTENSION}:8080",
        "*",
        "null",
        "file://",
        "https://*.example.com",
        "app.example.com",
        "https://app.example.com/path",
        "",
    ):
        with pytest.raises(ValidationError):
            Settings(cors_origins=(wrong,))


class Keyring:
    async def authenticate(self, headers: Any) -> None:
        return None


def gateway(**settings: Any) -> FastAPI:
    """The gateway's routes, without anything behind them."""
    app = FastAPI()
    made = IngestSettings(**settings)
    app.state.gateway = SimpleNamespace(settings=made, keyring=Keyring())
    for router in ROUTERS:
        app.include_router(router)
    errors.install(app)
    allow_pages(app, made.cors_origins)
    return app


async def asked(app: FastAPI, method: str, path: str, **headers: str) -> httpx.Response:
    async def local(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": ("127.0.0.1", 5)}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(local), base_url="http://127.0.0.1:8080") as client:
        return await client.request(method, path, headers=headers)


PATHS = sorted({route.path for router in ROUTERS for route in router.routes})  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path", ["/api/job/all", "/v1/jobs", "/silo/v1/entries", f"{common.PREFIX}/jobs/", "/v1/uploads", "/token"]
)
async def test_a_preflight_is_answered_in_every_dialect(path: str) -> None:
    app = gateway(cors_origins=(LISTED,))
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key, content-type"}
    answer = await asked(app, "OPTIONS", path, origin=LISTED, **wanted)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == LISTED
    assert "x-api-key" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    for origin in ("https://evil.example", "null", "file://", "http://127.0.0.1:8080"):
        answer = await asked(app, "OPTIONS", path, origin=origin, **wanted)
        assert answer.status_code >= 400 and "access-control-allow-origin" not in answer.headers, origin


async def test_a_listed_extension_may_do_what_programs_may() -> None:
    """The vendor's Chrome client: its reads come without an origin, all else with its own."""
    app = gateway(cors_origins=(EXTENSION,), conversion_needs_key=False)
    wanted = {"access-control-request-method": "DELETE", "access-control-request-headers": "accept, content-type"}
    for method in ("GET", "HEAD", "POST", "DELETE"):
        asks = {**wanted, "access-control-request-method": method}
        answer = await asked(app, "OPTIONS", f"{common.PREFIX}/jobs", origin=EXTENSION, **asks)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, EXTENSION), method
        assert method in answer.headers["access-control-allow-methods"]
        assert {"accept", "content-type"} <= set(
            answer.headers["access-control-allow-headers"].replace(" ", "").lower().split(",")
        )
    for origin, found in ((EXTENSION, None), (EXTENSION.replace("a", "b"), "pages of this origin need a key")):
        refused = refusal(request(HOST, ("origin", origin), ("sec-fetch-site", "cross-site")), (EXTENSION,))
        assert (refused is None) == (found is None) and (found or "") in (refused or "")
    assert refusal(request(HOST, ("sec-fetch-site", "none")), (EXTENSION,)) is None


async def test_without_listed_origins_no_page_reads_an_answer() -> None:
    for origin in (LISTED, "null"):
        answer = await asked(gateway(), "GET", "/api/tagshelf/ping", origin=origin)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", [p for p in PATHS if p.startswith("/conversion/")])
async def test_every_route_of_the_dialect_needs_a_key_by_default(path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await asked(gateway(), method, path.replace("{", "").replace("}", "").replace(":segment", ""))
        assert answer.status_code in (401, 404, 405), (method, path, answer.text)
    assert 401 in [
        (await asked(gateway(), m, path.replace("{", "").replace("}", "").replace(":segment", ""))).status_code
        for m in ("GET", "POST")
    ]


async def test_the_answer_to_a_page_says_what_is_wrong() -> None:
    app = gateway(conversion_needs_key=False)
    answer = await asked(app, "GET", f"{common.PREFIX}/jobs/", origin="null")
    assert answer.status_code == 401 and "STAGELINE_CORS_ORIGINS" in answer.json()["detail"]
    answer = await asked(app, "GET", f"{common.PREFIX}/jobs/", origin="null", authorization="Bearer nope")
    assert answer.status_code == 401 and "Without" not in answer.json()["detail"]
