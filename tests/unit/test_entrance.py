"""The gateway's entrance: a page, `/v1/about`, and where the notifier is."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ingest.http.openapi import DIALECTS
from shared.version import VERSION
from tests.gateway_app import BASE, gateway_app

NOTIFIER = "https://events.example.com"


async def test_a_browser_gets_a_page_and_a_program_gets_json(tmp_path: Path) -> None:
    async with gateway_app(tmp_path, notifier_public_url=NOTIFIER) as made, made.http() as http:
        page = await http.get("/", headers={"accept": "text/html,application/xhtml+xml;q=0.9"})
        assert page.headers["content-type"].startswith("text/html") and page.headers["vary"] == "accept"
        for shown in (VERSION, "docs/alfred", "openapi.json", "X-API-Key", ".stageline/admin.key", NOTIFIER, "health/ready"):
            assert shown in page.text, shown
        about = await http.get("/v1/about")
        assert (await http.get("/")).json() == about.json()
        assert about.json()["notifier_url"] == NOTIFIER and about.json()["version"] == VERSION
        assert set(about.json()["openapi"]) == set(DIALECTS)
        for path in (about.json()["docs"], *about.json()["openapi"].values()):
            assert (await http.get(path)).status_code == 200, path


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/events/stream?types=job.*&start=now"), ("POST", "/v1/webhooks"), ("DELETE", "/v1/webhooks/a%2Fb"), ("GET", "/v1/webhooks/x/log")],
)  # fmt: skip
async def test_the_gateway_sends_clients_to_the_notifier(tmp_path: Path, method: str, path: str) -> None:
    async with gateway_app(tmp_path, notifier_public_url=NOTIFIER) as made, made.http() as http:
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["location"]) == (307, NOTIFIER + path)
        assert answer.json()["type"] == "urn:stageline:error:at_notifier" and NOTIFIER in answer.json()["detail"]


async def test_a_proxy_that_mixes_up_the_services_is_told(tmp_path: Path) -> None:
    """Both have one public address, and the proxy does not pass on the host that the client asked: a redirect would be a loop."""
    async with gateway_app(tmp_path, public_url=NOTIFIER, notifier_public_url=NOTIFIER) as made, made.http() as http:
        answer = await http.get("/events/stream")
        assert answer.status_code == 404 and "proxy" in answer.json()["detail"]


@pytest.mark.parametrize("address", [None, BASE])
async def test_without_another_address_it_says_what_is_missing(tmp_path: Path, address: str | None) -> None:
    async with gateway_app(tmp_path, notifier_public_url=address) as made, made.http() as http:
        answer = await http.get("/v1/webhooks")
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
        assert ("STAGELINE_NOTIFIER_PUBLIC_URL" if address is None else "proxy") in answer.json()["detail"]
        assert (await http.get("/v1/about")).json()["notifier_url"] == address
