"""Every answer carries the headers that keep browsers closed, and `/docs` loads nothing from another host."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from shared.web.documentation import documented_app
from shared.web.page_headers import HEADERS, PageHeaders
from shared.web.paths import PlainPaths

WANTED = {"content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"}


def app() -> ASGIApp:
    made = documented_app("Trial <&>", "1.0")

    async def listed() -> dict[str, str]:
        return {}

    async def page() -> Response:
        return HTMLResponse("<script>alert(1)</script>")

    async def fails() -> Response:
        raise RuntimeError("a fault of ours")

    async def fault(request: Any, error: Exception) -> Response:
        return JSONResponse({}, 500)

    made.add_api_route("/v1/things/", listed)
    made.add_api_route("/page", page)
    made.add_middleware(PlainPaths)
    made.add_api_route("/fails", fails)
    made.add_exception_handler(Exception, fault)
    return PageHeaders(made)


async def get(path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        return await client.get(path, headers=headers)


@pytest.mark.parametrize(
    "path",
    ["/page", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/openapi.json", "/nothing", "/fails", "/v1/things"],
)
async def test_every_answer_has_the_headers(path: str) -> None:
    answer = await get(path)
    assert answer.headers.keys() >= WANTED and answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy and "unsafe" not in policy
    assert ("sandbox" in policy) == (path != "/docs"), "what is no page of ours runs nothing"


async def test_the_documentation_loads_its_own_files_alone() -> None:
    page = await get("/docs")
    assert page.status_code == 200 and "Trial &lt;&amp;&gt;" in page.text and "<script>" not in page.text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 4 and not [name for name in loaded if "//" in name]
    for name in loaded:
        assert (await get(f"/{name}")).status_code == 200, name
    assert not re.search(r"url\((?!data:|\"data:|'data:|#)", (await get("/docs/swagger-ui.css")).text)
    for gone in ("/redoc", "/docs/oauth2-redirect"):
        assert (await get(gone)).status_code == 404, "the framework's own pages load from another host"


@pytest.mark.parametrize("path", ["/v1/things?a=%2F&b", "/page/", "/docs/", "//evil.example/page", "//evil.example/.."])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:99", "127.0.0.1:8080", "[", "a/b?c#d"])
async def test_no_redirect_names_a_host(host: str, path: str) -> None:
    made = app()
    transport = httpx.ASGITransport(made, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        answer = await client.get(f"http://127.0.0.1:8080{path}", headers={"host": host})
    assert answer.headers.get("location", "../docs") == "../docs"
    assert answer.status_code in ((404, 200, 307) if path == "/docs/" else (404, 200)), "only the documentation redirects"


def test_the_policy_is_one_place() -> None:
    assert set(HEADERS) == WANTED
