"""Bodies of tenants, users, keys and applications: each has an example in the OpenAPI document, and its route takes it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gateway_app import InProcess, gateway_app


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("gateway")) as made:
        yield made


def examples(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(method, path, example) of each body of tenants, users, keys and applications."""
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if re.match(r"/v1/(tenants|users|keys|applications)(/{[a-z_]+})?$", path) and "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                model = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                found.append((method, path, model.get("examples", [None])[0]))
    return found


async def test_every_body_has_an_example_that_its_route_takes(app: InProcess) -> None:
    listed = examples(app.app.openapi())
    assert len(listed) == 4
    async with app.http(**{"x-api-key": await app.key("admin", "default")}) as http:
        for method, path, example in listed:
            assert example, (method, path)
            answer = await http.request(method, re.sub("{.+}", "acme", path), json=example)
            assert answer.status_code in (200, 201), (path, answer.text)
            if method == "post":
                shown = app.app.openapi()["paths"][path]["post"]["responses"]["201"]["content"]["application/json"]["example"]
                assert set(shown) == set(answer.json()), path


async def test_the_keys_of_another_tenant_are_for_the_platform(app: InProcess) -> None:
    mine, platform = await app.key("admin", "other", "mine"), await app.key("admin", "default", "platform")
    async with app.http(**{"x-api-key": platform}) as http:
        assert [k["user_name"] for k in (await http.get("/v1/keys?tenant_id=other")).json()["result"]] == ["mine"]
        assert "mine" not in [k["user_name"] for k in (await http.get("/v1/keys")).json()["result"]]
    async with app.http(**{"x-api-key": mine}) as http:
        assert (await http.get("/v1/keys?tenant_id=default")).status_code == 403
        assert (await http.get("/v1/keys?tenant_id=other")).status_code == (await http.get("/v1/keys")).status_code == 200
