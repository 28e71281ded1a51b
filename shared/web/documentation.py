"""The page `/docs` of an HTTP API: Swagger UI from an installed package, so that it works without internet and under a strict policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from shared.web.page_headers import POLICY

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""`data:` images are the icons in Swagger UI's style sheet."""
ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
START = """\
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, showExtensions: true, showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset], layout: "BaseLayout",
  validatorUrl: null,
});
"""
"""The page's own script. `validatorUrl: null`: Swagger UI would send the document's address to a validator on the internet."""
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: HTTP API</title>
<link rel="icon" type="image/png" href="docs/favicon.png"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The document itself is at <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
KEPT = {"cache-control": "public, max-age=86400"}


def documented_app(title: str, version: str, description: str = "") -> FastAPI:
    """An application with `/openapi.json`, and `/docs` to read it. The framework's own pages load scripts from another host.

    It redirects no path; `shared.web.paths` makes `/x/` the same as `/x`.
    """
    app = FastAPI(title=title, version=version, description=description, docs_url=None, redoc_url=None, redirect_slashes=False)
    page = PAGE.format(title=escape(title))

    async def docs(request: Request) -> Response:
        if request.scope.get("raw_path", b"").endswith(b"/"):
            # The page's own links are relative to an address without a slash at its end.
            return RedirectResponse("../docs")
        return HTMLResponse(page, headers={POLICY: PAGE_POLICY})

    async def start() -> Response:
        return Response(START, media_type="text/javascript", headers=KEPT)

    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/docs/start.js", start, include_in_schema=False)
    for name, kind in ASSETS.items():
        app.add_api_route(f"/docs/{name}", _file(_folder() / name, kind), include_in_schema=False)
    return app


def _file(path: Path, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return FileResponse(path, media_type=kind, headers=KEPT)

    return file


def _folder() -> Path:
    """The files of Swagger UI in the package `fastapi-offline`, which is not imported."""
    found = find_spec("fastapi_offline")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "static"
