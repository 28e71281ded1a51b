"""What every route needs: who calls, what to read from, where to publish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from services.ingest.adapters import read_model as rm
from services.ingest.adapters.door import KafkaPublisher, StoredDecisions
from services.ingest.adapters.http.credentials import Claim, authenticate, claim
from services.ingest.adapters.http.errors import ApiError
from services.ingest.adapters.limits import Limits
from services.ingest.adapters.remote import Remote
from services.ingest.settings import IngestSettings
from shared.access import Keyring, Principal
from shared.containers import Containers
from shared.objects import Objects
from shared.settle import Settler
from shared.store import Store


@dataclass
class Door:
    """The door's parts, on `app.state.door`."""

    settings: IngestSettings
    store: Store
    settler: Settler
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


def door_of(request: Request) -> Door:
    """The door's parts."""
    door: Door = request.app.state.door
    return door


DoorDep = Annotated[Door, Depends(door_of)]
NEEDS_KEY = "A valid key is needed: X-TagshelfAPI-Key, or Authorization: Bearer."


def caller(*roles: str) -> Callable[[Request, Door], Any]:
    """A dependency that admits the named roles (and `admin`). 401 without a valid key, 403 with the wrong role, 429 past the rate."""

    async def admit(request: Request, door: DoorDep) -> Principal:
        return await _admitted(request, door, await authenticate(request, door), roles)

    return admit


async def _uploader(request: Request, door: DoorDep) -> Claim:
    claimed = await claim(request, door)
    if claimed is None:
        raise ApiError(401, NEEDS_KEY)
    await _admitted(request, door, claimed.claimed, ("producer", "operator"))
    return claimed


async def _admitted(request: Request, door: Door, principal: Principal | None, roles: tuple[str, ...]) -> Principal:
    if principal is None:
        raise ApiError(401, NEEDS_KEY)
    request.state.rate = await door.limits.request(principal.tenant_id)
    if not principal.may(*roles):
        raise ApiError(403, f"The key's role {principal.role!r} may not do this.")
    return principal


Writer = Annotated[Principal, Depends(caller("producer", "operator"))]
Reader = Annotated[Principal, Depends(caller("reader", "producer", "operator"))]
Operator = Annotated[Principal, Depends(caller("operator"))]
Uploader = Annotated[Claim, Depends(_uploader)]
"""The multipart upload alone: a signed form is proven after it has been read, and nothing may come of it before."""
Admin = Annotated[Principal, Depends(caller())]
