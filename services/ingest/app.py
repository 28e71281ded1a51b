"""Binds the door: event streams into the read model, HTTP routes, the first key, the full-text index."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from fastapi import FastAPI
from sqlalchemy import text

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
    TOPICS,
    WEBHOOK_ANSWERS_TOPIC,
    WORKFLOWS_TOPIC,
)
from services.ingest.adapters.assembly import Assembly
from services.ingest.adapters.bulk_runner import BulkRunner
from services.ingest.adapters.door import KafkaPublisher, StoredDecisions
from services.ingest.adapters.held_ends import HeldEnds
from services.ingest.adapters.http import (
    accounts,
    alfred,
    alfred_account,
    alfred_files,
    archive,
    bulk,
    catalogue,
    control,
    conversion,
    conversion_results,
    conversion_simple,
    erase,
    errors,
    invopop,
    invopop_workflows,
    jobs,
    openapi,
    own,
    presigned,
    schedules,
    signin,
    silo,
    tus,
    workflows,
)
from services.ingest.adapters.http.context import Door
from services.ingest.adapters.http.representation import Representation
from services.ingest.adapters.limits import Limits
from services.ingest.adapters.outlets import Outlets
from services.ingest.adapters.retention import Erasures
from services.ingest.adapters.search_index import enter_search
from services.ingest.adapters.watched import Folders, read_watched
from services.ingest.handlers import Folding, kept
from services.ingest.settings import IngestSettings
from shared import clock
from shared.access import Keyring, apply_access, enter_key
from shared.containers import read_containers
from shared.errors import Retry, Stop
from shared.http import Parting, Traced
from shared.keys import key_hash, well_formed
from shared.lifecycle import Host
from shared.objects import ObjectMissing, open_objects
from shared.settings import read_secret
from shared.unit import Unit
from shared.wake import Wake

log = logging.getLogger(__name__)
GROUP = "ingest"
ACCESS_GROUP = "ingest-access"
DEFAULT_TENANT = "default"
PARTS = (
    alfred_files, alfred_account, signin, control, jobs, bulk, erase, workflows, schedules, accounts, catalogue, presigned, tus, archive,
    invopop, invopop_workflows, silo, conversion_results, conversion, conversion_simple,
)  # fmt: skip


async def build(host: Host, settings: IngestSettings) -> None:
    """Open everything, enter the first key, declare subscriptions and routes."""
    await host.open(TOPICS)
    objects = open_objects(settings.objects())
    decisions = StoredDecisions(host.store)
    host.settler.after.append(decisions.wake)
    host.on_drain.append(decisions.close)
    await _first_key(host, settings)
    folding = Folding(decisions.arrive)
    # Requests wait for what sessions and commands have come to, not for a stage of a job: of those a few are read at a time.
    host.subscribe([JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC], GROUP, folding, kept, member="events").rest_s = 0.05
    answers = [SESSION_EVENTS_TOPIC, JOB_ANSWERS_TOPIC, JOB_ERASURES_TOPIC, WEBHOOK_ANSWERS_TOPIC]
    # Not under the instance's bare name: a release before was one member for all, and whoever comes back under a static member's name
    # within its session is given what that one had, be it subscribed to it or not.
    host.subscribe([*answers, BACKLOG_TOPIC, WORKFLOWS_TOPIC, SCHEDULES_TOPIC], GROUP, folding, member="answers")
    host.subscribe([ACCESS_EVENTS_TOPIC], ACCESS_GROUP, partial(apply_access, keeps=True))
    door = Door(
        settings,
        host.store,
        host.settler,
        objects,
        KafkaPublisher(host.relay, host.telemetry),
        decisions,
        Keyring(host.store),
        Limits(host.store, settings),
        read_containers(settings.containers_file),
    )
    _behind(host, door)
    host.app = make_app(door, host)


def _behind(host: Host, door: Door) -> None:
    """What goes on without a request."""
    indexer = Indexer(host, door)
    host.settler.after.append(indexer.wake.set)
    for part in (indexer, BulkRunner(door), Erasures(door), Assembly(door), Outlets(door), HeldEnds(door)):
        host.background(part.run)
    watched = read_watched(door.settings.watched_folders_file)
    if watched:
        host.background(Folders(door, watched).run)
    host.closers.append(door.remote.close)


def make_app(door: Door, host: Host) -> FastAPI:
    """The HTTP application; its OpenAPI document is at /openapi.json, readable at /docs."""
    app = FastAPI(title="Stageline", version="0.1.0", description="Documents in, typed events and results out.")
    app.state.door = door
    app.include_router(alfred.router)
    app.include_router(alfred.uploads)
    app.include_router(own.router)
    app.include_router(silo.raw)
    app.include_router(conversion_simple.admin)
    for part in PARTS:
        app.include_router(part.router)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(Representation)
    app.add_middleware(Parting, shape=errors.shaped)
    app.add_middleware(Traced, telemetry=host.telemetry)
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

    await host.settle(enter)


class Indexer:
    """Enters the text of finished files into the full-text index; what is pending lies in the store."""

    def __init__(self, host: Host, door: Door) -> None:
        self.host = host
        self.door = door
        self.wake = Wake()

    async def run(self) -> None:
        """Until cancelled."""
        query = text("SELECT file_id, tenant_id, file_name, blob FROM index_pending LIMIT 50")
        while True:
            self.wake.begin()
            try:
                rows = await self.host.store.read(lambda c: c.execute(query).all())
                for row in rows:
                    await self._enter(row)
            except Retry as error:
                log.warning("indexing will be tried again", extra={"code": error.code, "reason": str(error)})
                await asyncio.sleep(1)
                continue
            if not rows:
                # Woken by our own commits; another replica may have died with rows of its own.
                await self.wake.wait(5 if self.host.store.shared else None)

    async def _enter(self, row: object) -> None:
        try:
            body = (await self.door.objects.get(row.blob)).decode("utf-8", "replace")  # type: ignore[attr-defined]
        except ObjectMissing as error:
            log.error("text for the index is gone", extra={"reason": str(error)})
            body = ""
        await self.host.store.transact(lambda c: enter_search(c, row, body))
