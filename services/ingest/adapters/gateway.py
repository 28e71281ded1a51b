"""The dependencies of every route and every background task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.ingest.adapters.remote_files import RemoteFiles
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.quotas import Limits
from services.ingest.ports import Decisions, Publisher
from services.ingest.settings import IngestSettings
from shared.database.store import Store
from shared.errors import Retry
from shared.objects.containers import Containers
from shared.objects.object_store import Objects
from shared.processing.processor import BatchProcessor
from shared.web.api_keys import Keyring

log = logging.getLogger(__name__)


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
    remote: RemoteFiles = field(init=False)
    uploading: int = 0
    """Requests that receive bytes right now."""
    delivery_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a delivery was scheduled."""
    upload_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an upload is complete."""
    bulk_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a bulk run was started or resumed."""
    retention_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a retention was changed."""

    def __post_init__(self) -> None:
        self.remote = RemoteFiles(self.objects, self.settings.trusted)

    async def record(self, table: str, record_id: str, tenant: str) -> dict[str, Any] | None:
        """A record of this tenant; None when there is none, or it belongs to another tenant."""
        found = await self.store.read(lambda c: rm.records(c, table, [record_id]))
        record = found.get(record_id)
        return record if record is not None and record["company_id"] == tenant else None

    async def discard_objects(self, blobs: Sequence[str]) -> None:
        """Delete objects that no row names any more. One that cannot be deleted now is logged and stays behind."""
        for blob in blobs:
            try:
                await self.objects.delete_object(blob)
            except Retry as error:
                log.warning("an unused object was not deleted", extra={"blob": blob, "reason": str(error)})
