"""The parts of the gateway that every route and every background task needs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from services.ingest.adapters.kafka_publisher import KafkaPublisher, StoredDecisions
from services.ingest.adapters.remote_files import Remote
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.quotas import Limits
from services.ingest.settings import IngestSettings
from shared.database.store import Store
from shared.objects.containers import Containers
from shared.objects.object_store import Objects
from shared.processing.processor import BatchProcessor
from shared.web.api_keys import Keyring


@dataclass
class Gateway:
    """The door's parts, on `app.state.door`."""

    settings: IngestSettings
    store: Store
    processor: BatchProcessor
    objects: Objects
    publisher: KafkaPublisher
    decisions: StoredDecisions
    keyring: Keyring
    limits: Limits
    containers: Containers = field(default_factory=dict)
    remote: Remote = field(init=False)
    uploading: int = 0
    """Requests that bring bytes right now."""
    outlet_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a result to be brought somewhere."""
    upload_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an upload has all its bytes."""
    bulk_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a bulk run to carry out."""
    retention_wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody changed how long jobs are kept."""

    def __post_init__(self) -> None:
        self.remote = Remote(self.objects, self.settings.trusted)

    async def record(self, table: str, record_id: str, tenant: str) -> dict[str, Any] | None:
        """A tenant's record, or None: somebody else's does not exist."""
        found = await self.store.read(lambda c: rm.records(c, table, [record_id]))
        record = found.get(record_id)
        return record if record is not None and record["company_id"] == tenant else None
