"""What operators do with webhooks over HTTP: every act is in the caller's tenant, once per key, and reported for the audit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from contracts import WebhookChanged
from contracts.topics import WEBHOOK_ANSWERS_TOPIC
from services.notifier.core.challenge import judge as judge_answer
from services.notifier.core.delivery import Result
from shared.errors import Retry
from tests.gateway_app import BASE, issued_key
from tests.notifier_app import notifier_app
from tests.webhook_receiver import Receiver

URL = "https://example.com/hook"


class Notifier:
    """An application with clients of two tenants, and what it reported."""

    def __init__(self, app: Any, key: str) -> None:
        self.app, self.key = app, key
        self.state = app.state.notifier
        self.transport = httpx.ASGITransport(app)

    async def ask(
        self, method: str, path: str = "", key: str | None = None, once: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = {"x-api-key": key or self.key} | ({"idempotency-key": once} if once else {})
        async with httpx.AsyncClient(transport=self.transport, base_url=BASE, headers=headers) as http:
            return await http.request(method, f"/v1/webhooks{path}", **more)

    async def added(self, url: str = URL, **more: Any) -> dict[str, Any]:
        answer = await self.ask("POST", json={"url": url, **more})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def reports(self) -> list[WebhookChanged]:
        sent = self.state.processor.relay.sent
        return [WebhookChanged.read(r.value) for r in sent if r.topic == WEBHOOK_ANSWERS_TOPIC.name]


@pytest.fixture
async def notifier(tmp_path: Path) -> AsyncIterator[Notifier]:
    async with notifier_app(tmp_path, allow_loopback=True) as (app, key):
        yield Notifier(app, key)


async def test_every_act_is_reported_with_its_author_and_reason(notifier: Notifier) -> None:
    endpoint = (await notifier.added(events=["job.*"]))["id"]
    for method, act, body in (
        ("PATCH", "", {"description": "orders"}), ("POST", "/rotate", {}), ("POST", "/disable", {"reason": "receiver moves"}),
        ("POST", "/replay", {"failed": True, "reason": "lost"}), ("POST", "/enable", {}), ("DELETE", "", None),
    ):  # fmt: skip
        answer = await notifier.ask(method, f"/{endpoint}{act}", json=body)
        assert answer.is_success, answer.text
    reports = notifier.reports()
    assert [r.verb for r in reports] == ["add", "edit", "rotate", "disable", "replay", "enable", "delete"]
    assert {(r.endpoint_id, r.tenant_id) for r in reports} == {(endpoint, "default")} and all(r.by for r in reports)
    assert [r.reason for r in reports if r.reason] == ["receiver moves", "lost"]
    assert len({r.event_id for r in reports}) == 7
    assert not any("whsec_" in r.to_json().decode() for r in reports), "no secret leaves by the audit"


async def test_another_tenants_endpoint_does_not_exist(notifier: Notifier) -> None:
    endpoint = (await notifier.added())["id"]
    other = await issued_key(notifier.state.store, "operator", "other")
    for method, act, body in (
        ("GET", "", None), ("PATCH", "", {"description": "x"}), ("POST", "/rotate", {}), ("POST", "/disable", {}), ("POST", "/enable", {}),
        ("POST", "/replay", {"failed": True}), ("POST", "/test", None), ("GET", "/log", None), ("DELETE", "", None),
    ):  # fmt: skip
        answer = await notifier.ask(method, f"/{endpoint}{act}", key=other, json=body)
        assert answer.status_code == 404, (method, act, answer.text)
    assert [r.verb for r in notifier.reports()] == ["add"]
    reader = await issued_key(notifier.state.store, "reader", "default")
    assert (await notifier.ask("POST", f"/{endpoint}/rotate", key=reader)).status_code == 403
    assert (await notifier.ask("GET", f"/{endpoint}", key=reader)).status_code == 200


async def test_a_repeat_under_its_key_changes_nothing_more(notifier: Notifier) -> None:
    body = {"url": URL}
    first, again = [(await notifier.ask("POST", once="k1", json=body)).json() for _ in range(2)]
    assert first == again and first["secret"].startswith("whsec_")
    assert len((await notifier.ask("GET")).json()["result"]) == 1
    rotated, same = [(await notifier.ask("POST", f"/{first['id']}/rotate", once="k2")).json() for _ in range(2)]
    assert rotated == same and rotated["secret"] != first["secret"]
    for once, act in (("k2", "disable"), ("k1", "rotate")):
        answer = await notifier.ask("POST", f"/{first['id']}/{act}", once=once)
        assert answer.status_code == 409 and "Idempotency-Key" in answer.json()["detail"]
    assert [(await notifier.ask("DELETE", f"/{first['id']}", once="k3")).status_code for _ in range(2)] == [204, 204]
    assert [r.verb for r in notifier.reports()] == ["add", "rotate", "delete"]


async def test_an_act_that_kafka_does_not_hear_of_yet_is_answered(notifier: Notifier) -> None:
    endpoint = (await notifier.added())["id"]
    relay = notifier.state.processor.relay
    relay.down = True
    assert (await notifier.ask("POST", f"/{endpoint}/disable")).json()["state"] == "disabled"
    relay.down = False
    await notifier.ask("POST", f"/{endpoint}/enable")
    assert [r.verb for r in notifier.reports()] == ["add", "disable", "enable"], "the report follows"


async def test_an_act_that_is_not_committed_is_no_success(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(work: Any) -> Any:
        raise Retry("database_unavailable", "down")

    monkeypatch.setattr(notifier.state.processor, "run_unit", fail)
    assert (await notifier.ask("POST", json={"url": URL})).status_code == 503


async def test_an_endpoint_is_changed_in_part(notifier: Notifier) -> None:
    made = await notifier.added(events=["job.*"])
    shown = (await notifier.ask("PATCH", f"/{made['id']}", json={"url": "https://example.org/new"})).json()
    assert (shown["url"], shown["events"]) == ("https://example.org/new", ["job.*"])
    shown = (await notifier.ask("PATCH", f"/{made['id']}", json={"events": []})).json()
    assert (shown["url"], shown["events"]) == ("https://example.org/new", [])
    for wrong in ({"events": ["job.done"]}, {"url": "https://10.0.0.1/"}, {"secret": "x"}):
        assert (await notifier.ask("PATCH", f"/{made['id']}", json=wrong)).status_code == 400, wrong
    assert (await notifier.ask("GET", f"/{made['id']}")).json() == {
        **shown, "deliveries": {}, "next_attempt_at": None, "last_delivered_at": None, "last_failed_at": None,
    }  # fmt: skip


async def test_a_test_is_signed_with_every_secret_that_counts_and_is_in_the_log(notifier: Notifier) -> None:
    async with Receiver() as receiver:
        made = await notifier.added(receiver.url, events=["job.failed"])
        newer = (await notifier.ask("POST", f"/{made['id']}/rotate", json={"overlap_s": 3600})).json()
        newest = (await notifier.ask("POST", f"/{made['id']}/rotate", json={"overlap_s": 3600})).json()
        await notifier.ask("POST", f"/{made['id']}/disable")
        for secret in (made["secret"], newer["secret"], newest["secret"]):
            receiver.secret = secret
            sent = (await notifier.ask("POST", f"/{made['id']}/test")).json()
            assert (sent["outcome"], sent["status_code"]) == ("delivered", 204), "a receiver with any of the secrets accepts it"
        assert [body["type"] for _, _, body in receiver.received] == ["webhook.test"] * 3
        assert len(receiver.headers[0]["webhook-signature"].split(" ")) == 3
        await notifier.ask("POST", f"/{made['id']}/rotate", json={"overlap_s": 0})
        sent = (await notifier.ask("POST", f"/{made['id']}/test", once="t")).json()
        assert (sent["outcome"], sent["status_code"]) == ("failed", 400), "without overlap the former secret ends at once"
        assert (await notifier.ask("POST", f"/{made['id']}/test", once="t")).json() == sent and receiver.bad_signatures == 1
    log = (await notifier.ask("GET", f"/{made['id']}/log")).json()["result"]
    assert [row["outcome"] for row in log] == ["failed", *["delivered"] * 3]
    assert [r["id"] for r in (await notifier.ask("GET", f"/{made['id']}/log?outcome=failed")).json()["result"]] == [sent["id"]]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/hook", "http://localhost:9000/hook", "https://192.168.1.5/hook"])
async def test_a_refused_address_says_how_it_is_allowed(tmp_path: Path, url: str) -> None:
    async with notifier_app(tmp_path) as (app, key):
        answer = await Notifier(app, key).ask("POST", json={"url": url})
    assert answer.status_code == 400
    assert "--allow-loopback" in answer.json()["detail"] and "STAGELINE_TRUSTED_NETWORKS" in answer.json()["detail"]


async def test_an_address_proves_itself_where_the_setting_asks_for_it(tmp_path: Path) -> None:
    async def hook(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        return web.Response(text=body["challenge"] if request.path == "/own" else "hello")

    server = web.Application()
    server.router.add_post("/{name}", hook)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with notifier_app(tmp_path, allow_loopback=True, webhook_challenge=True) as (app, key):
        notifier = Notifier(app, key)
        refused = await notifier.ask("POST", json={"url": f"{base}/foreign"})
        assert refused.status_code == 422 and "challenge" in refused.json()["detail"]
        endpoint = (await notifier.added(f"{base}/own"))["id"]
        assert (await notifier.ask("PATCH", f"/{endpoint}", json={"url": f"{base}/foreign"})).status_code == 422
        assert (await notifier.ask("PATCH", f"/{endpoint}", json={"description": "x"})).status_code == 200
        assert len((await notifier.ask("GET")).json()["result"]) == 1
    await runner.cleanup()


def test_only_the_challenge_is_an_answer() -> None:
    assert judge_answer(Result(200, detail='{"challenge": "abc"}'), "abc") == (None, None)
    assert (
        judge_answer(Result(200, detail="abd"), "abc")[0]
        == judge_answer(Result(500, detail="abc"), "abc")[0]
        == "challenge_failed"
    )
