"""Acts on webhooks in the audit of their tenant, on both databases."""

from __future__ import annotations

import json

from sqlalchemy import Connection, text

from contracts import WebhookChanged
from services.ingest.handlers import on_batch
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener
from tests.contracts.examples import example


async def test_an_act_is_a_line_of_the_audit(opened: Opener) -> None:
    store = await opened("ingest")
    message = example(WebhookChanged)
    assert isinstance(message, WebhookChanged)

    def enter(c: Connection) -> None:
        on_batch(Unit(c, 1000.0, "/t", Telemetry("t", "i")), [Inbound(message, "t", 0, 0, 0.0, None, message.to_json(), ())])

    await store.transact(enter)
    [row] = await store.read(lambda c: c.execute(text("SELECT tenant_id, body FROM audit")).all())
    line = json.loads(row.body)
    assert row.tenant_id == message.tenant_id
    assert (line["verb"], line["subject"], line["by"]) == ("webhook.replay", "ep-1", "john_doe")
    assert (line["reason"], line["message"], line["ok"]) == ("the receiver was down", "12 deliveries are due", True)
