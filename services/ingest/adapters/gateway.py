"""The dependencies of every route and every background task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachetools import TTLCache
from sqlalchemy import Connection

from contracts.ownership import is_tenant
from services.ingest.adapters.passwords import Passwords
from services.ingest.adapters.remote_files import RemoteFiles
from services.ingest.adapters.signed_links import SignedLinks
from services.ingest.adapters.store import accounts, object_claims, shares
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.audit_trail import AuditTrail
from services.ingest.adapters.store.quotas import Limits
from services.ingest.ports import Decisions, Publisher
from services.ingest.settings import IngestSettings
from shared import clock
from shared.database.store import Store
from shared.errors import Retry
from shared.objects.containers import Containers
from shared.objects.object_store import Objects, TenantObjects
from shared.processing.processor import BatchProcessor
from shared.secret_box import SecretBox
from shared.task_grants import TaskSeal
from shared.web.api_keys import KEY_CREDENTIAL, Keyring
from shared.web.concurrency import HeldRequests
from shared.web.revocation import CredentialWatch

log = logging.getLogger(__name__)
AMX_CREDENTIAL = "amx"
"""Kind of the credentials of signing applications."""


@dataclass
class Gateway:
    """What routes and background tasks work with; on `app.state.gateway`."""

    settings: IngestSettings
    store: Store
    processor: BatchProcessor
    objects: Objects
    publisher: Publisher
    decisions: Decisions
    keyring: Keyring
    limits: Limits
    containers: Containers = field(default_factory=dict)
    secret_box: SecretBox | None = None
    """Seals secrets of tenants; None without a key."""
    task_seal: TaskSeal | None = field(init=False)
    """Checks the addresses in tasks; None without a key."""
    remote: RemoteFiles = field(init=False)
    pending: HeldRequests = field(init=False)
    """Commands that were not decided yet."""
    waiting: HeldRequests = field(init=False)
    """Requests that wait for the end of a job."""
    passwords: Passwords = field(init=False)
    audit_trail: AuditTrail = field(init=False)
    signed_links: SignedLinks = field(init=False)
    watch: CredentialWatch = field(init=False)
    """Ends requests whose credential is revoked."""
    unproven_uploads: TTLCache[str, int] = field(default_factory=lambda: TTLCache(10_000, 60.0))
    """Address → uploads of the last minute whose signature was wrong."""
    known_workflows: TTLCache[tuple[str, str, int | None], bool] = field(default_factory=lambda: TTLCache(1000, 1.0))
    """(tenant, workflow, version) that were found within the last second."""
    keys_tidied_at: float = 0.0
    """When this process last deleted old idempotency keys, in Unix seconds."""
    uploading: int = 0
    """Requests that receive bytes right now."""
    delivery_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a delivery was scheduled."""
    upload_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an upload is complete."""
    bulk_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a bulk run was started or resumed."""
    deletion_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an object was found unneeded."""
    retention_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a retention was changed."""
    erasure_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an erasure was asked for."""
    tenant_erasure_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the erasure of a tenant was asked for."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.remote = RemoteFiles(settings.trusted)
        self.task_seal = TaskSeal.from_file(settings.task_key_file)
        self.pending = HeldRequests(
            "undecided commands", settings.max_pending, -(-settings.max_pending // 2), settings.max_pending
        )
        self.waiting = HeldRequests(
            "waiting requests", settings.max_waits, settings.max_waits_per_tenant, settings.max_waits_per_key
        )
        self.passwords = Passwords(settings.signin_queue)
        self.audit_trail = AuditTrail(self.store)
        self.signed_links = SignedLinks(self.store)
        self.watch = CredentialWatch(
            {KEY_CREDENTIAL: self.keyring.valid_keys, AMX_CREDENTIAL: self._valid_apps, shares.CREDENTIAL: self._valid_links}
        )

    async def _valid_apps(self, app_ids: Collection[str]) -> set[str]:
        return await self.store.read(lambda c: accounts.valid_apps(c, app_ids))

    async def _valid_links(self, hashes: Collection[str]) -> set[str]:
        return await self.store.read(lambda c: shares.valid_links(c, hashes, clock.unix()))

    async def record(self, table: str, record_id: str, tenant: str) -> dict[str, Any] | None:
        """A record of this tenant; None when there is none, or it belongs to another tenant."""
        found = await self.store.look_up(lambda c: rm.records(c, table, [record_id]))
        record = found.get(record_id)
        return record if record is not None and record["company_id"] == tenant else None

    async def discard_objects(self, blobs: Sequence[str]) -> None:
        """Delete objects that no row names any more. One that cannot be deleted now is logged and stays behind."""
        for blob in blobs:
            try:
                await self.objects.delete_unneeded(blob)
            except Retry as error:
                log.warning("an unused object was not deleted", extra={"blob": blob, "reason": str(error)})

    async def object_names(self, tenant: str, limit: int) -> list[str]:
        """Names of at most `limit` objects of a tenant. Empty for one that cannot own any."""
        return await self.objects.of(tenant).list_names(limit) if is_tenant(tenant) else []

    def claiming(self, tenant: str, file_id: str, job_id: str | None = None) -> TenantObjects:
        """The objects of a tenant. What is stored through them is claimed for `file_id` before it gets its name, so that no deletion takes it.
        With `job_id` the name has a mark of the job, as what a step stores."""

        async def claim(blob: str, size: int) -> None:
            if not (await self.store.transact(lambda c: object_claims.claim(c, blob, file_id, clock.unix()))).free:
                await self.await_deletion(blob)

        return self.objects.of(tenant, job_id).announcing(claim)

    async def await_deletion(self, blob: str) -> None:
        """Wait until no deletion of a claimed object is in progress. Raises `Retry` when one does not end."""

        def look(connection: Connection) -> bool | None:
            return True if object_claims.is_free(connection, blob, clock.unix()) else None

        if not await self.decisions.wait_until(look, object_claims.LEASE_S + 5):
            raise Retry("deletion_in_progress", "an equal object is being deleted; repeat the request")
