"""The Conversion Service's Simple API: a document in, its result out, through connections."""

from __future__ import annotations

import base64
import io
from typing import Any

import pikepdf
import pytest
from aiohttp import web

from cli.client import Client
from shared.web.form_data import FormData
from tests.conftest import SAMPLES
from tests.e2e.test_accounts import new_tenant
from tests.e2e.test_gateway import raw
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
SCAN = (SAMPLES / "scan-receipt.png").read_bytes()
PLAIN, STRUCTURED = "/conversion/v1.0/rest/http.input", "/conversion/v1.0/rest/http.inputstructured"


async def test_a_document_in_and_a_pdf_out(client: Client) -> None:
    form = FormData()
    form.add_field("data", SCAN, filename="receipt.png")
    for more in ({"data": SCAN, "headers": {"content-type": "image/png"}}, {"data": form}):
        status, body, headers = await raw(client, "POST", f"{PLAIN}/convert-to-pdf", **more)
        assert status == 200 and headers["Content-Disposition"].endswith(".pdf")
        with pikepdf.open(io.BytesIO(body)) as document:
            assert len(document.pages) == 1


@pytest.mark.parametrize(
    ("path", "more", "status", "code"),
    [
        (f"{PLAIN}/nope", {"data": b"x"}, 404, "connectionNotFound"), (f"{PLAIN}/convert-to-pdf", {"data": b""}, 400, "noData"),
        (f"{PLAIN}/convert-to-pdf", {"data": b"\x00\x01"}, 415, "unsupportedFormat"), (f"{PLAIN}/convert-to-pdf", {"data": b"%PDF-1.4 x"}, 422, "corrupt"),
        (f"{STRUCTURED}/dossier-default", {"json": {"data": []}}, 400, "noData"), (f"{STRUCTURED}/dossier-default", {"json": {"data": ["x"]}}, 400, "bad_request"),
        (f"{STRUCTURED}/dossier-default", {"json": {"data": [{"fileName": "a", "content": "?"}]}}, 400, "bad_request"),
        (f"{STRUCTURED}/dossier-default", {"json": {"data": [{"url": "http://10.0.0.1/"}]}}, 400, "urlNotDownloadable"),
        (f"{STRUCTURED}/nope", {"json": {}}, 404, "connectionNotFound"),
    ],
)  # fmt: skip
async def test_errors(client: Client, path: str, more: dict[str, Any], status: int, code: str) -> None:
    found, body, headers = await raw(client, "POST", path, **more)
    assert (found, body["type"].rpartition("/")[2]) == (status, code) and headers["Content-Type"] == "application/problem+json", (
        body
    )


async def test_several_documents_in(client: Client) -> None:
    entry = {"fileName": "a.png", "content": base64.b64encode(SCAN).decode(), "options": [{"name": "META.TITLE", "value": "x"}]}
    sent = {
        "name": "case",
        "data": [entry, {**entry, "fileName": "b.png"}],
        "options": [{"name": "META.AUTHOR", "value": "Acme"}],
        "variables": {},
    }
    status, body, _ = await raw(client, "POST", f"{STRUCTURED}/dossier-default", json=sent)
    assert status == 200 and [d["fileName"] for d in body["data"]] == ["case.pdf"]
    with pikepdf.open(io.BytesIO(base64.b64decode(body["data"][0]["content"]))) as document:
        assert len(document.pages) == 2 and str(document.docinfo["/Author"]) == "Acme"


async def test_a_connection_that_sends_results_on(client: Client) -> None:
    brought: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        brought.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/take", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, admin, producer = await new_tenant(client)
    try:
        async with admin, producer:
            path = "/v1/conversion/connections/scans"
            wanted = {"workflow": "Convert to PDF", "output_url": f"http://127.0.0.1:{runner.addresses[0][1]}/take"}
            assert (await raw(admin, "PUT", path, json={**wanted, "output_url": "http://10.1.1.1/x"}))[0] == 400
            assert (await raw(admin, "PUT", path, json={**wanted, "workflow": "Nope"}))[0] == 400
            assert (await raw(producer, "PUT", path, json=wanted))[0] == 403
            assert (await admin.call("PUT", path, json=wanted))["id"] == "scans"
            assert (await raw(producer, "POST", f"{PLAIN}/scans", data=SCAN))[0] == 202
            assert (await raw(client, "POST", f"{PLAIN}/scans", data=SCAN))[0] == 404, "the connection belongs to another tenant"

            async def there() -> bool:
                return bool(brought)

            await eventually(there, 30)
            assert brought[0].startswith(b"%PDF")
            assert (await raw(admin, "DELETE", path))[0] == 204 and (await raw(admin, "DELETE", path))[0] == 404
    finally:
        await runner.cleanup()
