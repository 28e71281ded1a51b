"""Containers at Google and Azure, against a server that implements reading for both and checks Azure's signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.stage_worker.adapters.downloads import GuardedDownloads
from services.stage_worker.core.document_fault import DocumentFault
from shared.errors import Stop
from shared.objects.containers import container_url, read_containers
from shared.objects.object_store import open_objects

ACCOUNT, KEY = "papers", base64.b64encode(b"0123456789abcdef" * 4).decode()
STORED = {"/scans/2026/note one.txt": b"Invoice No: C-1\n"}


def signed(request: web.Request) -> str:
    """The expected `Authorization`: Azure's Shared Key over the request (learn.microsoft.com, "Authorize with Shared Key")."""
    own = "".join(f"{n}:{v}\n" for n, v in sorted((k.lower(), v) for k, v in request.headers.items()) if n.startswith("x-ms-"))
    plain = "".join(request.headers.get(name, "") + "\n" for name in (
        "Content-Encoding", "Content-Language", "(no length of nothing)", "Content-MD5", "Content-Type", "Date", "If-Modified-Since",
        "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
    ))  # fmt: skip
    text = f"{request.method}\n{plain}{own}/{ACCOUNT}{request.rel_url.raw_path}"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"


@pytest.fixture
async def cloud() -> AsyncIterator[str]:
    async def blob(request: web.Request) -> web.Response:
        if "x-ms-version" in request.headers and request.headers.get("Authorization") != signed(request):
            return web.Response(status=403, text="AuthenticationFailed")
        found = STORED.get(request.path)
        dated = {"ETag": '"1"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT", "x-ms-blob-type": "BlockBlob"}
        return web.Response(body=found, headers=dated) if found else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", blob)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def downloads(tmp_path: Path, cloud: str, key: str = KEY) -> GuardedDownloads:
    path = tmp_path / "containers.json"
    open_to: dict[str, Any] = {"tenants": ["acme"], "allow_http": True}
    path.write_text(json.dumps({
        "google": {"source": "gcp", "url": "gs://scans/2026", "options": {"base_url": cloud, "skip_signature": "true"}, **open_to},
        "azure": {"source": "azure", "url": "az://scans/2026", **open_to,
                  "options": {"account_name": ACCOUNT, "account_key": key, "endpoint": cloud}},
    }))  # fmt: skip
    return GuardedDownloads(open_objects((tmp_path / "objects").as_uri()), 10_000, (), read_containers(path))


@pytest.mark.parametrize("name", ["google", "azure"])
async def test_a_document_comes_from_the_container(tmp_path: Path, cloud: str, name: str) -> None:
    fetch = downloads(tmp_path, cloud).fetch_file
    stored, _ = await fetch("acme", "job-1", container_url(name, "note one.txt"))
    assert stored.sha256 == hashlib.sha256(b"Invoice No: C-1\n").hexdigest()
    with pytest.raises(DocumentFault, match="has no file") as lost:
        await fetch("acme", "job-1", container_url(name, "other.txt"))
    assert lost.value.code == "source_refused"
    with pytest.raises(DocumentFault) as closed:
        await fetch("other", "job-1", container_url(name, "note one.txt"))
    assert closed.value.code == "container_unknown"


async def test_a_wrong_account_key_is_an_error_that_may_be_retried(tmp_path: Path, cloud: str) -> None:
    wrong = base64.b64encode(b"another key, another signature..").decode()
    with pytest.raises(DocumentFault) as fault:
        await downloads(tmp_path, cloud, wrong).fetch_file("acme", "job-1", container_url("azure", "note one.txt"))
    assert fault.value.code == "source_unavailable" and fault.value.retriable


@pytest.mark.parametrize("options", [{"no_such_option": "x"}, {"account_name": "a", "account_key": "no base64!"}])
def test_unknown_options_are_reported_at_the_start(tmp_path: Path, options: dict[str, str]) -> None:
    path = tmp_path / "containers.json"
    path.write_text(json.dumps({"azure": {"source": "azure", "url": "az://scans", "options": options}}))
    with pytest.raises(Stop, match="azure") as stop:
        read_containers(path)
    assert stop.value.code == "containers_file"
