"""Callers of the Conversion Service's dialect without a key: which there are, and what they reach."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cli.client import Client
from tests.e2e.conversion_client import Conversion
from tests.e2e.test_conversion import SCAN, refused

pytestmark = pytest.mark.kafka


@pytest.fixture
async def conversion(client: Client) -> AsyncIterator[Conversion]:
    async with Conversion(client.target.url) as made:
        yield made


async def test_without_a_key_only_from_this_machine(client: Client) -> None:
    own = client.target.url
    for headers in (
        {"host": "rebound.example.com"}, {"x-forwarded-for": "203.0.113.9"}, {"origin": "https://evil.example.com"},
        {"origin": "null"}, {"origin": "file://"}, {"origin": "chrome-extension://abc"}, {"sec-fetch-site": "cross-site"},
        {"origin": own, "sec-fetch-site": "cross-site"}, {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    ):  # fmt: skip
        async with Conversion(own, **headers) as stranger:
            assert await refused(stranger, "GET", "/jobs/") == (401, "unauthorized"), headers
            assert await refused(stranger, "POST", "/jobs/", json=[]) == (401, "unauthorized"), headers
    for headers in ({"authorization": "Bearer nope"}, {"x-api-key": "nope"}, {"x-tagshelfapi-key": ""}):
        async with Conversion(own, **headers) as wrong:
            assert (await refused(wrong, "GET", "/jobs/"))[0] == 401, "a wrong key is refused even where no key is needed"
    async with Conversion(own, origin=own, **{"sec-fetch-site": "same-origin"}) as page:
        assert (await page.call("GET", "/jobs/"))[0] == 200, "a page of ours may"


async def test_callers_without_a_key_are_a_tenant_of_their_own(client: Client, conversion: Conversion) -> None:
    job_id = await conversion.create()
    await conversion.add(job_id, "a.png", SCAN)
    async with Conversion(client.target.url, authorization=f"Bearer {client.target.key}") as platform:
        assert await refused(platform, "GET", f"/jobs/{job_id}") == (404, "jobNotFound")
        theirs = await platform.create()
        assert await refused(conversion, "GET", f"/jobs/{theirs}") == (404, "jobNotFound")
        await platform.call("DELETE", f"/jobs/{theirs}")
    key = await client.call("POST", "/v1/keys", json={"user_name": "x", "tenant_id": "keyless"})
    async with Conversion(client.target.url, **{"x-api-key": key["key"]}) as same:
        assert (await same.call("GET", f"/jobs/{job_id}"))[1]["status"]["code"] == "creating", "an operator can look"
