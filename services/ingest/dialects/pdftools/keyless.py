"""Callers without a key, where the operator allows them: programs on this machine, never pages of another origin."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request

from contracts import Tenancy
from shared.web.api_keys import Principal

KEYLESS = Principal(Tenancy(tenant_id="keyless", tenant_name="Callers without a key", user_name="loopback"), "producer")
"""Whom they are: a tenant of their own. In the platform's tenant they would share documents with those who act for all tenants."""
PROXY_HEADERS = ("forwarded", "via", "x-real-ip")
OWN_SITE = ("same-origin", "none")
"""Values of `Sec-Fetch-Site` for a page of ours, and for an address that the user typed."""


def refusal(request: Request, origins: Collection[str]) -> str | None:
    """Why this request needs a key; None for a program on this machine. Pages of `origins` count as such programs.

    A page of another site reaches the loopback too, by its own requests or by a name that it points there (DNS rebinding).
    Browsers name its origin, its relation to us, or its own host.
    """
    if request.client is None or not is_loopback(request.client.host) or _came_by_proxy(request):
        return "the request must come from this machine, without a proxy"
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not is_loopback(_name_in(hosts[0])):
        return "Host must name this machine: localhost or 127.0.0.1"
    own = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
    named = request.headers.getlist("origin")
    if not all(origin in own or origin in origins for origin in named):
        return "pages of this origin need a key; see STAGELINE_CORS_ORIGINS"
    listed = bool(named) and all(origin in origins for origin in named)
    if not listed and any(site.lower() not in OWN_SITE for site in request.headers.getlist("sec-fetch-site")):
        return "pages of other sites need a key"
    return None


def _came_by_proxy(request: Request) -> bool:
    names = request.headers.keys()
    # A proxy that is not configured speaks HTTP/1.0 to us and adds no header.
    return request.scope.get("http_version") == "1.0" or any(n in PROXY_HEADERS or n.startswith("x-forwarded-") for n in names)


def _name_in(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """True for `localhost` and for an address of the loopback."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
