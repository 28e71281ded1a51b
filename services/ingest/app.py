"""Builds the gateway: subscriptions into the read model, HTTP routes, background work, the first key."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from fastapi import FastAPI

from contracts import AccessKeyIssued, derived
from contracts.topics import (
    ACCESS_EVENTS_TOPIC,
    BACKLOG_TOPIC,
    FILE_EVENTS_TOPIC,
    JOB_ANSWERS_TOPIC,
    JOB_ERASURES_TOPIC,
    JOB_EVENTS_TOPIC,
    SCHEDULES_TOPIC,
    SESSION_EVENTS_TOPIC,
    TENANT_COMMANDS_PATTERN,
    TOPICS,
    WEBHOOK_ANSWERS_TOPIC,
    WORKFLOWS_TOPIC,
    tenant_commands_topic,
)
from services.ingest import tenant_gate
from services.ingest.adapters.background.bulk_runner import BulkRunner
from services.ingest.adapters.background.erasure_requests import ErasureRequests
from services.ingest.adapters.background.held_ends import HeldEndReleaser
from services.ingest.adapters.background.indexer import Indexer
from services.ingest.adapters.background.object_collector import ObjectCollector
from services.ingest.adapters.background.object_deletion import ObjectDeletion
from services.ingest.adapters.background.recycle_bin import RecycleBinSweeper
from services.ingest.adapters.background.retention import RetentionSweeper
from services.ingest.adapters.background.tenant_erasure import TenantErasures
from services.ingest.adapters.background.upload_assembly import UploadAssembly
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.kafka_publisher import KafkaPublisher
from services.ingest.adapters.store.quotas import Limits
from services.ingest.adapters.waiting import Waits
from services.ingest.dialects.pdftools.result_delivery import ResultDelivery
from services.ingest.dialects.pdftools.watched_folders import WatchedFolders, read_watched
from services.ingest.dialects.routes import ROUTERS
from services.ingest.handlers import Projector, dedup_policy
from services.ingest.http import errors, invalid_bodies, openapi
from services.ingest.http.audit_trail import AuditedAnswers
from services.ingest.http.content_negotiation import ContentNegotiation
from services.ingest.settings import IngestSettings
from shared import clock
from shared.errors import Stop
from shared.objects.containers import read_containers
from shared.objects.object_store import open_objects
from shared.processing.inbox import DedupPolicy
from shared.processing.unit_of_work import Unit
from shared.runtime.disk_space import shortage
from shared.runtime.service import Host
from shared.secret_box import SecretBox
from shared.settings import read_secret
from shared.version import VERSION
from shared.web.api_keys import Keyring, apply_access, enter_key
from shared.web.content_coding import UncompressedBodies
from shared.web.cross_origin import allow_pages
from shared.web.documentation import documented_app
from shared.web.head_requests import HeadRequests
from shared.web.key_format import key_hash, well_formed
from shared.web.middleware import CloseOnShutdown, TracingMiddleware
from shared.web.paths import PlainPaths
from shared.web.revocation import RevocableRequests

log = logging.getLogger(__name__)
GROUP = "ingest"
ACCESS_GROUP = "ingest-access"
TENANTS_GROUP = "ingest-tenants"
DEFAULT_TENANT = "default"


async def build(host: Host, settings: IngestSettings) -> None:
    """Open Kafka, the store and the object store, enter the first key, declare subscriptions and routes."""
    await host.open_resources(TOPICS)
    objects = open_objects(settings.objects_url())
    decisions = Waits(host.store)
    host.processor.after_commit.append(decisions.wake)
    host.on_shutdown.append(decisions.close)
    await _first_key(host, settings)
    projector = Projector(decisions.arrive, settings)
    # Requests wait for sessions and commands, never for a job's stage, so job and file events may be fetched with a pause in
    # between.
    host.subscribe(
        [JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC], GROUP, projector, dedup_policy, member="events"
    ).reader.fetch_pause_s = 0.05
    answers = [SESSION_EVENTS_TOPIC, JOB_ANSWERS_TOPIC, JOB_ERASURES_TOPIC, WEBHOOK_ANSWERS_TOPIC]
    # Each member of the group has its own name: a static member's name stands for its topics.
    host.subscribe([*answers, BACKLOG_TOPIC, WORKFLOWS_TOPIC, SCHEDULES_TOPIC], GROUP, projector, member="answers")
    host.subscribe([ACCESS_EVENTS_TOPIC], ACCESS_GROUP, partial(apply_access, owns_topic=True))
    tenants = host.subscribe(
        [tenant_commands_topic("ID")],
        TENANTS_GROUP,
        partial(tenant_gate.on_batch, settings=settings),
        DedupPolicy.NONE,
        pattern=TENANT_COMMANDS_PATTERN,
    )
    host.add_background(partial(tenant_gate.watch_topics, tenants))
    gateway = Gateway(
        settings,
        host.store,
        host.processor,
        objects,
        KafkaPublisher(host.relay, host.telemetry, partial(shortage, settings.data_dir)),
        decisions,
        Keyring(host.store),
        Limits(host.store, settings),
        read_containers(settings.containers_file),
        SecretBox.from_file(settings.secrets_key_file),
    )
    _start_background(host, gateway)
    host.app = make_app(gateway, host)


def _start_background(host: Host, gateway: Gateway) -> None:
    """Start what runs beside requests, and watch the object store."""
    host.health.checks.append(gateway.objects.access.object_store)
    for part in (
        Indexer(gateway),
        BulkRunner(gateway),
        RetentionSweeper(gateway),
        RecycleBinSweeper(gateway),
        ErasureRequests(gateway),
        TenantErasures(gateway),
        ObjectDeletion(gateway),
        ObjectCollector(gateway),
        UploadAssembly(gateway),
        ResultDelivery(gateway),
        HeldEndReleaser(gateway),
    ):
        host.add_background(part.run)
    watched = read_watched(gateway.settings.watched_folders_file)
    if watched:
        host.add_background(WatchedFolders(gateway, watched).run)
    host.add_background(gateway.watch.run)
    host.add_background(gateway.audit_trail.run)
    host.closers += [gateway.remote.close, gateway.audit_trail.close]


def make_app(gateway: Gateway, host: Host) -> FastAPI:
    """The HTTP application. `/` names its pages and documents."""
    app = documented_app("Stageline", VERSION, openapi.DIALECTS[openapi.OWN].description, openapi.OTHERS)
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    errors.install(app)
    invalid_bodies.install(app, gateway)
    openapi.install(app)
    app.add_middleware(UncompressedBodies, shape=errors.shaped)
    app.add_middleware(ContentNegotiation, requests_per_minute=gateway.settings.requests_per_minute)
    app.add_middleware(HeadRequests, routes=[route for router in ROUTERS for route in router.routes])
    app.add_middleware(RevocableRequests, watch=gateway.watch, shape=errors.shaped)
    app.add_middleware(AuditedAnswers, gateway=gateway)
    app.add_middleware(CloseOnShutdown, shape=errors.shaped)
    app.add_middleware(TracingMiddleware, telemetry=host.telemetry)
    app.add_middleware(PlainPaths)
    allow_pages(app, gateway.settings.cors_origins)
    return app


async def _first_key(host: Host, settings: IngestSettings) -> None:
    """Enter the admin key of `STAGELINE_ADMIN_KEY_FILE`, once."""
    if settings.admin_key_file is None:
        return
    key = await asyncio.to_thread(read_secret, settings.admin_key_file)
    if not well_formed(key):
        raise Stop("admin_key", f"{settings.admin_key_file} holds no key of ours")
    digest = key_hash(key)
    event = AccessKeyIssued(
        event_id=derived(digest, "issued"), key_hash=digest, tenant_id=DEFAULT_TENANT, tenant_name="Default",
        user_name="admin", role="admin", prefix=key[:8], occurred_at=clock.now(),
    )  # fmt: skip

    def enter(unit: Unit) -> None:
        if enter_key(unit.connection, event):
            unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)

    await host.run_startup_unit(enter)
