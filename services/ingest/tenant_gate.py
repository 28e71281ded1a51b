"""Takes the commands of tenants that work by Kafka, and passes on those that HTTP would have taken, in the tenant's name.

The tenant is the one of the topic. What a record says about its owner counts for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from contracts import CommandDecided, CreateJob, Message, Tenancy, derived
from contracts.session import SESSION_COMMANDS
from contracts.topics import JOB_ANSWERS_TOPIC, JOB_COMMANDS_TOPIC, SESSION_COMMANDS_TOPIC, tenant_of
from services.ingest.adapters.store import reservations
from services.ingest.adapters.store.quotas import quotas_in
from services.ingest.adapters.store.reservations import HOLD_S, OverLimit, job_place
from services.ingest.adapters.store.tenant_erasures import is_erased
from services.ingest.core.tenant_commands import VERBS, Refused, admitted, own_id
from services.ingest.settings import IngestSettings
from shared.database.store import mark_seen, unmark_seen
from shared.errors import DeadLetter
from shared.processing.inbox import seen_key
from shared.processing.records import Inbound
from shared.processing.subscription import Subscription
from shared.processing.unit_of_work import Unit
from shared.telemetry.logs import log_fields

log = logging.getLogger(__name__)
LOOK_S = 3.0
"""How soon a tenant's commands are read after its topics were made."""
USER = "kafka"
"""The user in whose name a tenant's commands are carried out: the topic proves the tenant and no person."""
_TENANT = text("SELECT name FROM tenant WHERE tenant_id = :t")
_ERASED = text("SELECT 1 FROM erased WHERE job_id = :j")
_OWN_JOB = text("SELECT 1 FROM job_view WHERE id = :i AND tenant_id = :t")


def on_batch(unit: Unit, batch: Sequence[Inbound], settings: IngestSettings) -> None:
    """Pass on each command, or refuse it by `CommandDecided` on `job.answers`, which the notifier hands to the tenant."""
    keys = {id(item): f"{tenant_of(item.topic)}|{seen_key(item)}" for item in batch}
    new = mark_seen(unit.connection, list(dict.fromkeys(keys.values())), unit.now) if batch else set()
    rooms: dict[str, _Room] = {}
    for item in batch:
        key = keys[id(item)]
        if key not in new:
            continue
        new.discard(key)
        with item.guard():
            _take(unit, item, key, rooms, settings)


def _take(unit: Unit, item: Inbound, key: str, rooms: dict[str, _Room], settings: IngestSettings) -> None:
    tenant = tenant_of(item.topic)
    if tenant is None:
        raise DeadLetter("unknown_topic", f"{item.topic} is no topic of a tenant")
    room = rooms.get(tenant) or rooms.setdefault(tenant, _Room(unit, tenant, settings))
    owner = Tenancy(tenant_id=tenant, tenant_name=room.name, user_name=USER)
    try:
        if room.erased:
            raise Refused("tenant_erased", f"tenant {tenant} is erased")
        command = admitted(item.message, owner, lambda job: _is_own_job(unit.connection, tenant, job))
        if isinstance(command, CreateJob):
            if unit.connection.execute(_ERASED, {"j": command.job_id}).first() is not None:
                raise Refused("erased", f"job_id: job {command.job_id} was erased; its id cannot be used again")
            room.take(command.job_id)
    except Refused as refused:
        # Without a mark, so that the same command counts when the cause is gone.
        unmark_seen(unit.connection, [key])
        _refuse(unit, item, tenant, refused)
        return
    topic = SESSION_COMMANDS_TOPIC if isinstance(command, SESSION_COMMANDS) else JOB_COMMANDS_TOPIC
    unit.emit(topic.name, command, item.trace, command=True)


class _Room:
    """A tenant's name and quotas in this transaction."""

    def __init__(self, unit: Unit, tenant: str, settings: IngestSettings) -> None:
        self.unit = unit
        self.tenant = tenant
        self.name: str = unit.connection.execute(_TENANT, {"t": tenant}).scalar() or ""
        self.erased = is_erased(unit.connection, tenant)
        self.quotas = quotas_in(unit.connection, tenant, settings)

    def take(self, job_id: str) -> None:
        """Reserve the place of a job. Raises `Refused` when the quota is used up."""
        places = [job_place(job_id)]
        if not reservations.limits(self.quotas, places):
            return
        try:
            reservations.reserve(self.unit.connection, self.tenant, self.quotas, places, self.unit.now, HOLD_S)
        except OverLimit as error:
            raise Refused("quota_exceeded", str(error)) from None


def _is_own_job(connection: Connection, tenant: str, job_id: str) -> bool:
    return connection.execute(_OWN_JOB, {"i": job_id, "t": tenant}).first() is not None


def _refuse(unit: Unit, item: Inbound, tenant: str, refused: Refused) -> None:
    message: Any = item.message
    command_id, subject = _known(tenant, message.command_id), _known(tenant, message.key)
    decided = CommandDecided(
        answer_id=derived(command_id, "refused at the gate"), command_id=command_id, tenant_id=tenant, subject=subject,
        occurred_at=datetime.fromtimestamp(unit.now, UTC), verb=_verb(message), ok=False, code=refused.code, message=str(refused),
        by=USER, job_id=subject if hasattr(message, "job_id") else None,
    )  # fmt: skip
    unit.emit(JOB_ANSWERS_TOPIC.name, decided, item.trace)
    unit.telemetry.count("pipeline.commands.refused", 1, reason=refused.code)
    log.info("tenant's command refused", extra=log_fields(item.trace, decided.job_id, tenant=tenant, reason=refused.code))


def _verb(message: Message) -> str:
    return VERBS.get(type(message), "command")


def _known(tenant: str, given: str) -> str:
    try:
        return own_id(tenant, given)
    except Refused:
        return given[:200]


async def watch_topics(subscription: Subscription) -> None:
    """Look for topics of new tenants until cancelled. By itself the client would look every five minutes."""
    while True:
        await asyncio.sleep(LOOK_S)
        if subscription.consumer is not None:
            await subscription.consumer._client.force_metadata_update()
