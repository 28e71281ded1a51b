"""Hostile requests to the HTTP APIs: each gets a clear answer, never a 500, and the next request is served."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest

from cli.client import Client
from shared.web.form_data import FormData

pytestmark = pytest.mark.kafka
VALUES = [
    '"\\ud800"', '{"a": "\\ud800"}', '{"\\ud800": 1}', "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, "1e999", "[1e400]", "NaN",
    '{"a": NaN}', "-1", "9" * 40, "true", "null", '""', '"x\\u0000y"', '"' + "x" * 5000 + '"',
]  # fmt: skip
FIELDS = [
    "session_id",
    "metadata",
    "propagate_metadata",
    "priority",
    "merge",
    "workflow",
    "workflow_version",
    "channel",
    "page_rotation",
]
JSON = {"content-type": "application/json"}


async def status(client: Client, method: str, url: str, **more: Any) -> int:
    async with client.http.request(method, url, **more) as answer:
        body = await answer.text()
        assert answer.status < 500, (method, url[:200], str(more)[:300], body[:300])
        if answer.status >= 400:
            said = await answer.json(content_type=None)
            assert said.get("message") or said.get("detail"), body
        return answer.status


async def test_hostile_json_at_every_field(client: Client) -> None:
    gateway, notifier = client.target.url, client.target.notifier_url
    for value, field in itertools.product(VALUES, FIELDS):
        body = f'{{"{field}": {value}' + ("}" if field == "session_id" else ', "session_id": "nope"}')
        assert await status(client, "POST", f"{gateway}/api/job/create", data=body, headers=JSON) in (400, 404), body[:200]
    for value in VALUES:
        for body in (f'{{"urls": [{value}]}}', f'{{"url": {value}}}', value):
            assert await status(client, "POST", f"{gateway}/api/file/upload", data=body, headers=JSON) == 400
        await status(
            client,
            "POST",
            f"{gateway}/v1/keys",
            data=f'{{"user_name": {value}, "role": "reader", "tenant_id": "x"}}',
            headers=JSON,
        )
        assert await status(client, "POST", f"{notifier}/v1/webhooks", data=f'{{"url": {value}}}', headers=JSON) == 400


async def test_hostile_metadata_of_an_upload(client: Client) -> None:
    session = (await client.call("POST", "/api/deferred/create"))["session_id"]
    for value in ('"\\ud800"', '{"a": NaN}', "[" * 900 + "]" * 900, "{"):
        form = FormData()
        form.add_field("session_id", session)
        form.add_field("metadata", value)
        form.add_field("file", b"hello", filename="a.txt")
        assert await status(client, "POST", client.target.url + "/api/file/uploadfile", data=form) == 400, value[:20]


@pytest.mark.parametrize(
    "text",
    ["%00", "a%00b", "%22", "a*b**", "%ff%fe", "%ED%A0%80", "(", "NEAR(", "a" * 900, "AND", "-x", "^a", "a:b", "%F0%9F%98%80"],
)
async def test_hostile_paths_and_queries(client: Client, text: str) -> None:
    gateway, notifier = client.target.url, client.target.notifier_url
    assert await status(client, "GET", f"{gateway}/v1/search?q={text}") == 200
    for path in (
        "/api/job/detail/",
        "/api/file/detail/",
        "/api/file/download/",
        "/api/deferred/detail/",
        "/v1/jobs/",
        "/v1/files/",
    ):
        assert await status(client, "GET", gateway + path + text) == 404
    assert await status(client, "POST", f"{gateway}/api/job/cancel/{text}") == 404
    assert await status(client, "DELETE", f"{notifier}/v1/webhooks/{text}") == 404


@pytest.mark.parametrize("number", ["0", "-1", "9" * 30, "1e5", "x"])
async def test_hostile_numbers(client: Client, number: str) -> None:
    for path in (f"/api/job/all?currentPage={number}", f"/api/job/all?pageSize={number}", f"/v1/search?q=a&limit={number}"):
        assert await status(client, "GET", client.target.url + path) == 400
    await status(client, "GET", f"{client.target.url}/v1/jobs/x/history?after={number}")


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 300, "text/plain"]
)
async def test_hostile_forms(client: Client, kind: str) -> None:
    url = client.target.url + "/api/file/uploadfile"
    assert await status(client, "POST", url, data=b"--x\r\n\r\n", headers={"content-type": kind}) == 400


async def test_a_too_large_request_is_answered_in_its_dialect(client: Client) -> None:
    for path, kind in (
        ("/v1/keys", "application/problem+json"),
        ("/api/job/create", "application/json"),
        ("/transform/v1/jobs", "application/json"),
    ):
        large = io.BytesIO(b'{"x": "' + b"y" * 3_000_000 + b'"}')
        async with client.http.post(client.target.url + path, data=large, headers=JSON) as answer:
            body = await answer.json(content_type=None)
            assert (answer.status, answer.content_type) == (413, kind) and (body.get("detail") or body["message"]), path
    assert await status(client, "GET", f"{client.target.url}/v1/audit?before={1 << 80}") == 400
