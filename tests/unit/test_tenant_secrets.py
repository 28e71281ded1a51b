"""Secrets of tenants: sealed at the gateway, opened by the worker for one address, repeated by no message."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from contracts import SecretChanged, StageTask
from services.stage_worker.adapters.tenant_secrets import TenantSecrets
from services.stage_worker.adapters.webhook_caller import WebhookCaller
from services.stage_worker.core.document_fault import DocumentFault
from shared.errors import Stop
from shared.net.networks import trusted_networks
from shared.secret_box import SecretBox, new_box_key
from stageline_kit import Outcome, Task

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOX = SecretBox(b"k" * 32)
URL = "https://crm.example.com/hook"


def changed(tenant: str, name: str, value: str | None, origins: tuple[str, ...] = (), box: SecretBox = BOX) -> SecretChanged:
    sealed = None if value is None else box.seal(tenant, name, origins, value)
    return SecretChanged(event_id="e", tenant_id=tenant, name=name, sealed=sealed, origins=origins, occurred_at=AT)


def known(*events: SecretChanged, box: SecretBox | None = BOX) -> TenantSecrets:
    secrets = TenantSecrets(box, arrival_s=0.01)
    for event in events:
        secrets.apply(event)
    return secrets


async def test_a_secret_is_its_tenants() -> None:
    secrets = known(changed("a", "crm", "value"), changed("default", "crm", "ours"))
    assert await secrets.reveal("a", "secret:crm", URL) == "value"
    assert await secrets.reveal("a", "secret:platform/crm", URL) == "ours"
    with pytest.raises(DocumentFault) as fault:
        await secrets.reveal("b", "secret:crm", URL)
    assert (fault.value.code, fault.value.retriable) == ("secret_unknown", True)


@pytest.mark.parametrize(
    ("secrets", "code"),
    [
        (known(changed("a", "crm", "v"), changed("a", "crm", None)), "secret_unknown"),
        (known(changed("a", "crm", "v", ("https://other.example:443",))), "secret_refused"),
        (known(changed("a", "crm", "v"), box=None), "not_configured"),
        (known(changed("a", "crm", "v", box=SecretBox(b"o" * 32))), "not_configured"),
        (known(changed("b", "crm", "v").model_copy(update={"tenant_id": "a"})), "not_configured"),
        (known(changed("a", "crm", "v").model_copy(update={"origins": ("https://crm.example.com:443",)})), "not_configured"),
    ],
)  # fmt: skip
async def test_a_secret_that_is_not_revealed(secrets: TenantSecrets, code: str) -> None:
    with pytest.raises(DocumentFault) as fault:
        await secrets.reveal("a", "secret:crm", URL)
    assert fault.value.code == code


async def test_an_origin_that_is_allowed() -> None:
    assert await known(changed("a", "crm", "v", ("https://crm.example.com:443",))).reveal("a", "secret:crm", URL) == "v"


def test_the_sealed_form_tells_nothing_and_differs_each_time() -> None:
    first, second = (BOX.seal("a", "crm", (), "value") for _ in range(2))
    assert first != second and b"value" not in base64.b64decode(first)


def test_a_key_file_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert SecretBox.from_file(None) is None
    for text in ("", "short", base64.b64encode(b"x" * 31).decode(), "ü" * 44):
        path.write_text(text)
        with pytest.raises(Stop):
            SecretBox.from_file(path)
    path.write_text(new_box_key() + "\n")
    assert SecretBox.from_file(path) is not None


def task(config: dict[str, Any]) -> Task:
    fields = {"job_id": "j", "tenant_id": "a", "step": "tell", "action": "http.webhook", "attempt": 1, "lease": "l"}
    return Task(StageTask.trusted(task_id="t", issued_at=AT, config=config, inputs={}, file=None, polls=None, **fields))


async def test_the_worker_sends_the_value_and_repeats_it_in_no_message() -> None:
    heard: list[dict[str, str]] = []

    async def hook(request: web.Request) -> web.Response:
        heard.append(dict(request.headers))
        said = f"bad token {request.headers['authorization']} {request.headers.get('x-api-key')}"
        return web.json_response({"code": request.headers["authorization"], "message": said}, status=401)

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    caller = WebhookCaller(trusted_networks(True, ()), known(changed("a", "crm", "s3cret"), changed("a", "key", "k3y")))
    config = {"url": url, "bearer_token": "secret:crm", "headers": {"X-Api-Key": "secret:key"}}
    try:
        with pytest.raises(Outcome) as outcome:
            await caller.call_url(task(config))
        with pytest.raises(Outcome) as literal:
            await caller.call_url(task({"url": url, "bearer_token": "written"}))
    finally:
        await caller.close()
        await runner.cleanup()
    assert heard[0]["Authorization"] == "Bearer s3cret" and heard[0]["X-Api-Key"] == "k3y"
    assert heard[1]["Authorization"] == "Bearer written", "a workflow of an earlier release goes on"
    for error, values in ((outcome.value, ("s3cret", "k3y")), (literal.value, ("written",))):
        assert not any(v in f"{error.code} {error}" for v in values) and "[hidden]" in str(error)


async def test_a_value_that_is_no_header_is_refused() -> None:
    caller = WebhookCaller((), known(changed("a", "crm", "two\r\nlines")))
    with pytest.raises(DocumentFault) as fault:
        await caller.call_url(task({"url": "https://example.com/", "bearer_token": "secret:crm"}))
    assert "two" not in str(fault.value)
