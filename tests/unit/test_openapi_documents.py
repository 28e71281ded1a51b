"""The OpenAPI documents: one of our own and one for each vendor, valid, named and typed throughout."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from services.ingest.http.openapi import DIALECTS, OPEN, OWN, documents
from shared.web.api_keys import KEY_HEADERS
from shared.web.openapi import KEY_HEADER, operations_of
from tests.gateway_app import InProcess, gateway_app

Schema = dict[str, Any]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path, public_url="https://documents.example.com/") as made:
        yield made


@pytest.fixture
async def found(gateway: InProcess) -> dict[str, Schema]:
    """The gateway's documents by name."""
    return documents(gateway.app)


def header_names(operation: Schema) -> set[str]:
    return {p["name"] for p in operation.get("parameters", ()) if p["in"] == "header"}


def by_id(document: Schema, operation_id: str) -> Schema:
    return next(operation for _, _, operation in operations_of(document) if operation["operationId"] == operation_id)


async def test_each_dialect_has_a_valid_document_of_its_own(gateway: InProcess, found: dict[str, Schema]) -> None:
    async with gateway.http() as http:
        for name, dialect in DIALECTS.items():
            served = (await http.get("/openapi.json" if name == OWN else f"/openapi/{name}.json")).json()
            assert served == found[name], name
            validate(served)
            assert all(path.startswith(dialect.prefixes) for path in served["paths"]) and served["paths"], name
            assert served["servers"] == [{"url": "https://documents.example.com"}]
            page = await http.get("/docs" if name == OWN else f"/docs/{name}")
            assert page.status_code == 200 and dialect.title in page.text
    assert not any(
        "/v1" in path and path.startswith("/v1") for name in ("alfred", "invopop", "conversion") for path in found[name]["paths"]
    )


async def test_without_a_public_address_the_server_is_where_the_document_is(tmp_path: Path) -> None:
    async with gateway_app(tmp_path) as made:
        assert {document["servers"][0]["url"] for document in documents(made.app).values()} == {"/"}


async def test_every_operation_of_ours_has_a_name_and_a_model(found: dict[str, Schema]) -> None:
    ids = [operation["operationId"] for document in found.values() for _, _, operation in operations_of(document)]
    assert len(ids) == len(set(ids))
    for path, method, operation in operations_of(found[OWN]):
        where = (method, path, operation["operationId"])
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", operation["operationId"]), where
        assert not operation["operationId"].lower().startswith((f"{method}v1", f"{method}api")), where
        assert operation["summary"] and operation["description"], where
        for status, answer in operation["responses"].items():
            content = answer.get("content", {})
            if status.startswith("2") and "application/json" in content:
                assert set(content["application/json"]["schema"]) == {"$ref"}, (*where, content)
            assert status != "416" or not content, where
            if status.startswith(("4", "5")) and status != "416":
                assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}, where


async def test_no_schema_has_a_name_of_the_framework(found: dict[str, Schema]) -> None:
    for document in found.values():
        for name, schema in document["components"]["schemas"].items():
            assert re.fullmatch(r"[A-Z][A-Za-z]*", name) and schema.get("title", name) == name, (name, schema.get("title"))
            assert schema.get("description"), name


async def test_header_parameters_are_documented(found: dict[str, Schema]) -> None:
    own = found[OWN]
    for operation_id in ("createJob", "rerunJob", "createUpload", "correctValue", "recycleFile"):
        assert "Idempotency-Key" in header_names(by_id(own, operation_id)), operation_id
    for operation_id in ("createJob", "getJob"):
        assert "Prefer" in header_names(by_id(own, operation_id)), operation_id
    download = by_id(own, "downloadFileOutput")
    assert {"If-None-Match", "Range"} <= header_names(download) and "ETag" in download["responses"]["200"]["headers"]
    alfred = dict(found["alfred"]["paths"])
    assert "Prefer" in header_names(alfred["/api/job/create"]["post"])
    assert "Idempotency-Key" in header_names(alfred["/api/file/uploadfile"]["post"])


async def test_one_header_is_named_for_keys_and_all_are_accepted(gateway: InProcess, found: dict[str, Schema]) -> None:
    for name in (OWN, "invopop", "conversion"):
        assert found[name]["components"]["securitySchemes"]["key"]["name"] == KEY_HEADER == "X-API-Key"
    for document in found.values():
        for path, method, operation in operations_of(document):
            assert operation["security"] or path in OPEN or method == "options", (method, path)
            assert {s for entry in operation["security"] for s in entry} <= set(document["components"]["securitySchemes"]), path
    key = await gateway.key("reader")
    async with gateway.http() as http:
        for headers in (*({name: key} for name in KEY_HEADERS), {"authorization": f"Bearer {key}"}):
            assert (await http.get("/v1/tenant", headers=headers)).status_code == 200, headers
        for path in ("/v1/tenant", "/api/job/all", "/conversion/v1.0/rest/workflows"):
            refused = (await http.get(path)).json()
            assert KEY_HEADER in (refused.get("detail") or refused["message"]), path


async def test_examples_fit_their_schemas(found: dict[str, Schema]) -> None:
    count = 0
    for document in found.values():
        for name, schema in document["components"]["schemas"].items():
            for example in schema.get("examples", ()):
                Draft202012Validator({**schema, "components": document["components"]}).validate(example)
                count += 1
            for field, inner in schema.get("properties", {}).items():
                for example in inner.get("examples", ()):
                    faults = list(Draft202012Validator({**inner, "components": document["components"]}).iter_errors(example))
                    assert not faults, (name, field, faults)
                    count += 1
    assert count > 60
