"""Connects the notifier's topics, dispatcher, streams and HTTP routes."""

from __future__ import annotations

from fastapi import FastAPI

from contracts.topics import (
    ACCESS_EVENTS_TOPIC,
    FILE_EVENTS_TOPIC,
    JOB_ERASURES_TOPIC,
    JOB_EVENTS_TOPIC,
    SESSION_EVENTS_TOPIC,
    TOPICS,
    WEBHOOK_COMMANDS_TOPIC,
)
from services.notifier.adapters.http import NotifierState, install_errors, problem, router
from services.notifier.adapters.sender import HttpSender
from services.notifier.adapters.socket import Sockets
from services.notifier.adapters.stream import EventStream
from services.notifier.dispatcher import Dispatcher
from services.notifier.handlers import EndpointTenants, on_batch
from services.notifier.registration import WebhookVerifier
from services.notifier.settings import NotifierSettings
from shared.processing.inbox import DedupPolicy
from shared.runtime.service import Host
from shared.version import VERSION
from shared.web.api_keys import Keyring, apply_access
from shared.web.middleware import CloseOnShutdown, TracingMiddleware

GROUP = "notifier"
ACCESS_GROUP = "notifier-access"


async def build(host: Host, settings: NotifierSettings) -> None:
    """Open the store, declare subscriptions, start the dispatcher, serve HTTP."""
    await host.open_resources(TOPICS)
    events = [JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, SESSION_EVENTS_TOPIC]
    # A delivery's key is (endpoint, event), so a repeated event changes nothing and no inbox is needed.
    deliveries = host.subscribe([*events, JOB_ERASURES_TOPIC, WEBHOOK_COMMANDS_TOPIC], GROUP, on_batch, inbox=DedupPolicy.NONE)
    deliveries.select_relevant = EndpointTenants(host.store, events).select
    deliveries.reader.fetch_pause_s = 0.05
    host.subscribe([ACCESS_EVENTS_TOPIC], ACCESS_GROUP, apply_access)
    sender = HttpSender(settings.webhook_timeout_s, settings.trusted)
    dispatcher = Dispatcher(
        host.processor, sender, host.telemetry, settings.webhook_schedule, settings.webhooks_in_flight,
        settings.webhooks_per_endpoint, settings.webhook_timeout_s,
    )  # fmt: skip
    host.add_background(dispatcher.run)
    host.add_background(WebhookVerifier(host.processor, sender).run)
    host.drainers.append(dispatcher.drain)
    host.closers.append(sender.close)
    stream = EventStream(settings.kafka, events)
    host.on_shutdown.append(stream.stopping.set)
    keyring = Keyring(host.store)
    sockets = Sockets(settings.kafka, [JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC], keyring, settings.max_streams)
    host.add_background(sockets.run)
    host.add_background(sockets.recheck)
    state = NotifierState(settings, host.store, host.processor, keyring, stream)
    app = FastAPI(title="Stageline notifier", version=VERSION)
    app.state.notifier = state
    app.include_router(router)
    install_errors(app)
    app.mount("/socket.io", sockets.application)
    app.add_middleware(CloseOnShutdown, shape=problem)
    app.add_middleware(TracingMiddleware, telemetry=host.telemetry)
    host.app = app
