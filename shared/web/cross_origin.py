"""Which web pages may call our HTTP APIs from a browser (CORS): those whose origins the operator lists, by default none."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SHOWN = (
    "Content-Disposition", "Content-Range", "ETag", "Location", "Preference-Applied", "Retry-After", "Stageline-File-Id",
    "Tus-Resumable", "Upload-Expires", "Upload-Length", "Upload-Offset", "X-RateLimit-Limit", "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)  # fmt: skip
"""Headers of answers that such a page may read."""


def allow_pages(app: Starlette, origins: Sequence[str]) -> None:
    """Let pages of these origins call every route of `app`, and answer their preflights. Cookies stay out: our credentials are headers."""
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=METHODS, allow_headers=["*"], expose_headers=SHOWN,
            allow_private_network=True,
        )  # fmt: skip
