"""Connects the notifier's topics, dispatcher, streams and HTTP routes."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp

from contracts.topics import (
    ACCESS_EVENTS_TOPIC,
    FILE_EVENTS_TOPIC,
    JOB_ANSWERS_TOPIC,
    JOB_ERASURES_TOPIC,
    JOB_EVENTS_TOPIC,
    SESSION_EVENTS_TOPIC,
    TOPICS,
    WEBHOOK_COMMANDS_TOPIC,
)
from services.notifier.adapters import openapi, webhooks
from services.notifier.adapters.delivery_queue import Limits
from services.notifier.adapters.feed import EventFeed
from services.notifier.adapters.http import NotifierState, install_errors, problem, router
from services.notifier.adapters.sender import HttpSender
from services.notifier.adapters.socket import Sockets
from services.notifier.adapters.stream import EventStream
from services.notifier.adapters.tenant_mirror import start_mirror
from services.notifier.core.shapes import Shapes
from services.notifier.dispatcher import Dispatcher
from services.notifier.handlers import EndpointTenants, on_batch
from services.notifier.registration import WebhookVerifier
from services.notifier.settings import NotifierSettings
from shared.processing.inbox import DedupPolicy
from shared.runtime.service import Host
from shared.telemetry.tracing import Telemetry
from shared.version import VERSION
from shared.web.api_keys import KEY_CREDENTIAL, Keyring, apply_access
from shared.web.concurrency import HeldRequests
from shared.web.content_coding import UncompressedBodies
from shared.web.cross_origin import allow_pages
from shared.web.documentation import documented_app
from shared.web.middleware import CloseOnShutdown, TracingMiddleware
from shared.web.paths import PlainPaths
from shared.web.revocation import CredentialWatch, RevocableRequests

GROUP = "notifier"
ACCESS_GROUP = "notifier-access"


async def build(host: Host, settings: NotifierSettings) -> None:
    """Open the store, declare subscriptions, start the dispatcher, serve HTTP."""
    await host.open_resources(TOPICS)
    events = [JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, SESSION_EVENTS_TOPIC]
    # A delivery's key is (endpoint, event), so a repeated event changes nothing and no inbox is needed.
    prepare = partial(on_batch, shapes=Shapes(settings.public_url))
    deliveries = host.subscribe([*events, JOB_ERASURES_TOPIC, WEBHOOK_COMMANDS_TOPIC], GROUP, prepare, inbox=DedupPolicy.NONE)
    deliveries.select_relevant = EndpointTenants(host.store, events).select
    deliveries.reader.fetch_pause_s = 0.05
    host.subscribe([ACCESS_EVENTS_TOPIC], ACCESS_GROUP, apply_access)
    await start_mirror(host, [*events, JOB_ERASURES_TOPIC, JOB_ANSWERS_TOPIC])
    sender = HttpSender(settings.webhook_timeout_s, settings.trusted)
    dispatcher = Dispatcher(
        host.processor, sender, host.telemetry, settings.webhook_schedule, _limits(settings), settings.webhook_timeout_s
    )
    host.add_background(dispatcher.run)
    host.add_background(WebhookVerifier(host.processor, sender).run)
    host.drainers.append(dispatcher.drain)
    host.closers.append(sender.close)
    feed = EventFeed(settings.kafka, events, host.sealing.seals)
    host.add_background(feed.run)
    stream = EventStream(feed)
    host.on_shutdown.append(stream.stop)
    keyring = Keyring(host.store)
    watch = CredentialWatch({KEY_CREDENTIAL: keyring.valid_keys})
    host.add_background(watch.run)
    held = HeldRequests("streams", settings.max_streams, settings.max_streams_per_tenant, settings.max_streams_per_key)
    sockets = Sockets(feed, keyring, watch, held, Shapes(settings.public_url))
    host.add_background(sockets.run)
    state = NotifierState(settings, host.store, host.processor, keyring, stream, held, sender, sender)
    host.app = make_app(state, sockets.application, watch, host.telemetry)


def make_app(state: NotifierState, sockets: ASGIApp, watch: CredentialWatch, telemetry: Telemetry) -> FastAPI:
    """The HTTP application. Its OpenAPI document is at /openapi.json and readable at /docs."""
    app = documented_app("Stageline notifier", VERSION, openapi.DESCRIPTION)
    app.state.notifier = state
    app.include_router(webhooks.router)
    app.include_router(router)
    install_errors(app)
    openapi.install(app)
    app.mount("/socket.io", sockets)
    app.add_middleware(UncompressedBodies, shape=problem)
    app.add_middleware(RevocableRequests, watch=watch, shape=problem)
    app.add_middleware(CloseOnShutdown, shape=problem)
    app.add_middleware(TracingMiddleware, telemetry=telemetry)
    app.add_middleware(PlainPaths)
    allow_pages(app, state.settings.cors_origins)
    return app


def _limits(settings: NotifierSettings) -> Limits:
    in_flight = settings.webhooks_in_flight
    return Limits(in_flight, settings.webhooks_per_endpoint, settings.webhooks_per_address, reserved=in_flight // 4)
