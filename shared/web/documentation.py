"""The pages `/docs` of an HTTP API: Swagger UI from an installed package, so that it works without internet and under a strict policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from shared.web.openapi import operation_id
from shared.web.page_headers import POLICY

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""`data:` images are the icons in Swagger UI's style sheet."""
ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
START = """\
SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.document, dom_id: "#swagger-ui",
  deepLinking: true, showExtensions: true, showCommonExtensions: true, persistAuthorization: false,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset], layout: "BaseLayout",
  validatorUrl: null,
});
"""
"""The page's own script. `validatorUrl: null`: Swagger UI would send the document's address to a validator on the internet."""
STYLE = """\
body { margin: 0; font-family: system-ui, sans-serif; line-height: 1.5; color: #1f2933; background: #fff; }
nav { display: flex; flex-wrap: wrap; gap: 1.25rem; padding: .75rem 1.25rem; background: #1f2933; }
nav a { color: #fff; } nav a[aria-current] { font-weight: 600; text-decoration: none; }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1.25rem; }
main dt { font-weight: 600; margin-top: .75rem; } main dd { margin: 0; }
code { background: #eef1f4; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
"""
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: HTTP API</title>
<link rel="icon" type="image/png" href="{root}docs/favicon.png"><link rel="stylesheet" href="{root}docs/swagger-ui.css">
<link rel="stylesheet" href="{root}docs/page.css"></head>
<body>{navigation}<div id="swagger-ui" data-document="{root}{document}"></div>
<noscript>This page needs JavaScript. The document itself is at <a href="{root}{document}">{document}</a>.</noscript>
<script src="{root}docs/swagger-ui-bundle.js"></script><script src="{root}docs/start.js"></script></body></html>
"""
KEPT = {"cache-control": "public, max-age=86400"}


@dataclass(frozen=True)
class Documented:
    """A further OpenAPI document of an application: its title, and the function that makes it."""

    title: str
    document: Callable[[FastAPI], dict[str, Any]]


def documented_app(title: str, version: str, description: str = "", others: Mapping[str, Documented] | None = None) -> FastAPI:
    """An application with `/openapi.json`, and `/docs` to read it; with `/openapi/NAME.json` and `/docs/NAME` for each of the others.

    It redirects no path; `shared.web.paths` makes `/x/` the same as `/x`. The framework's own pages load scripts from another host.
    """
    app = FastAPI(
        title=title, version=version, description=description, docs_url=None, redoc_url=None, redirect_slashes=False,
        generate_unique_id_function=operation_id, separate_input_output_schemas=False,
    )  # fmt: skip
    _serve(app, others or {})
    return app


def _serve(app: FastAPI, others: Mapping[str, Documented]) -> None:
    titles = {"": app.title, **{name: other.title for name, other in others.items()}}
    for name in titles:
        app.add_api_route(f"/docs/{name}".rstrip("/"), _page(name, titles), include_in_schema=False)
    for name, other in others.items():
        app.add_api_route(f"/openapi/{name}.json", _document(other), include_in_schema=False)
    texts = {"start.js": (START, "text/javascript"), "page.css": (STYLE, "text/css")}
    for file, (text, kind) in texts.items():
        app.add_api_route(f"/docs/{file}", _text(text, kind), include_in_schema=False)
    for file, kind in ASSETS.items():
        app.add_api_route(f"/docs/{file}", _file(_folder() / file, kind), include_in_schema=False)


def _page(name: str, titles: Mapping[str, str]) -> Callable[[Request], Awaitable[Response]]:
    root = "../" if name else ""
    links = (
        f'<a href="{root}docs{f"/{other}" if other else ""}"{" aria-current=page" if other == name else ""}>{escape(title)}</a>'
        for other, title in titles.items()
    )
    page = PAGE.format(
        title=escape(titles[name]), root=root, document=f"openapi/{name}.json" if name else "openapi.json",
        navigation=f"<nav>{''.join(links)}</nav>" if len(titles) > 1 else "",
    )  # fmt: skip

    async def docs(request: Request) -> Response:
        if request.scope.get("raw_path", b"").endswith(b"/"):
            # The page's own links are relative to an address without a slash at its end.
            return RedirectResponse(f"../{name or 'docs'}")
        return HTMLResponse(page, headers={POLICY: PAGE_POLICY})

    return docs


def _document(other: Documented) -> Callable[[Request], Awaitable[Response]]:
    async def document(request: Request) -> Response:
        return JSONResponse(other.document(request.app))

    return document


def _text(text: str, kind: str) -> Callable[[], Awaitable[Response]]:
    async def asset() -> Response:
        return Response(text, media_type=kind, headers=KEPT)

    return asset


def _file(path: Path, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return FileResponse(path, media_type=kind, headers=KEPT)

    return file


def _folder() -> Path:
    """The files of Swagger UI in the package `fastapi-offline`, which is not imported."""
    found = find_spec("fastapi_offline")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "static"
