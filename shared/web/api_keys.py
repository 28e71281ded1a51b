"""Keys and who they speak for. Every service with a door keeps the table up to date from `access.events`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlmodel import Field, SQLModel

from contracts import AccessKeyIssued, AccessKeyRevoked, Tenancy
from contracts.topics import ACCESS_EVENTS_TOPIC
from shared import clock
from shared.database.statements import exclusive
from shared.database.store import Store, table_of
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.web.key_format import key_hash, well_formed


class AccessRow(SQLModel, table=True):
    """A key by its hash; the key itself is shown once and kept nowhere."""

    __tablename__ = "access_key"
    key_hash: str = Field(primary_key=True)
    tenant_id: str
    tenant_name: str
    user_name: str
    role: str
    prefix: str
    revoked: bool = False
    expires_at: float | None = None
    """Unix seconds."""


ACCESS = table_of(AccessRow)
FRESH_S = 2.0
"""How long a key that was looked up stands without another look: revoked elsewhere, it ends here after this."""
MOST_KNOWN = 10_000
EXPIRED_KEPT_S = 86_400
"""A key whose time is over is remembered so long, so that a late revocation finds it."""
KEY_HEADERS = ("x-tagshelfapi-key", "x-api-key")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the tenant comes from the credential and from nowhere else."""

    tenancy: Tenancy
    role: str

    @property
    def tenant_id(self) -> str:
        return self.tenancy.tenant_id

    def may(self, *roles: str) -> bool:
        """True when the role is one of `roles`; `admin` may everything."""
        return self.role == "admin" or self.role in roles


def apply_access(unit: Unit, batch: Sequence[Inbound], owns_topic: bool = False) -> None:
    """Enter issued and revoked keys into the table. A revoked key stays revoked, whatever order repeats arrive in. `owns_topic` is for the
    service that writes the topic, and lets it forget what this table forgets."""
    for item in batch:
        message = item.message
        with item.guard():
            if isinstance(message, AccessKeyIssued):
                enter_key(unit.connection, message)
                if message.expires_at is not None:
                    forget_expired(unit, owns_topic)
            elif isinstance(message, AccessKeyRevoked):
                unit.connection.execute(ACCESS.update().where(ACCESS.c.key_hash == message.key_hash).values(revoked=True))


def enter_key(connection: Connection, event: AccessKeyIssued) -> bool:
    """Enter a key if it is not there, whatever became of it since; true when it is new."""
    exclusive(connection, "access")
    if connection.execute(select(ACCESS.c.revoked).where(ACCESS.c.key_hash == event.key_hash)).first() is not None:
        return False
    fields = event.model_dump(include={"key_hash", "tenant_id", "tenant_name", "user_name", "role", "prefix"})
    expires_at = event.expires_at.timestamp() if event.expires_at else None
    connection.execute(ACCESS.insert().values(**fields, revoked=False, expires_at=expires_at))
    return True


def forget_expired(unit: Unit, owns_topic: bool) -> None:
    """Drop keys whose time was over a day ago: short-lived ones come with every sign-in. `owns_topic`: the compacted topic forgets them too."""
    over = ACCESS.delete().where(ACCESS.c.expires_at < unit.now - EXPIRED_KEPT_S).returning(ACCESS.c.key_hash)
    for digest in unit.connection.execute(over).scalars().all():
        if owns_topic:
            unit.emit_tombstone(ACCESS_EVENTS_TOPIC.name, digest)


class Keyring:
    """Looks up presented keys in the service's own table."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[str, tuple[float, Principal]] = {}

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """Who the request speaks for, by `X-TagshelfAPI-Key`, `X-API-Key` or `Authorization: Bearer`; None if nobody."""
        # A credential that is there counts, even an empty one: a wrong key is never made good by another header.
        presented = next((headers[name] for name in KEY_HEADERS if name in headers), None)
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if presented is None and scheme.lower() == "bearer":
            presented = value.strip()
        return await self.principal_of(presented or "")

    async def principal_of(self, presented: str) -> Principal | None:
        """Who a key speaks for; None for none of ours, a revoked one and one whose time is over."""
        if not presented or not well_formed(presented):
            return None
        digest, now = key_hash(presented), clock.unix()
        known = self._known.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        row = await self.store.read(lambda c: c.execute(select(ACCESS).where(ACCESS.c.key_hash == digest)).first())
        if row is None or row.revoked or (row.expires_at is not None and row.expires_at <= now):
            self._known.pop(digest, None)
            return None
        tenancy = Tenancy(tenant_id=row.tenant_id, tenant_name=row.tenant_name, user_name=row.user_name)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[digest] = min(now + FRESH_S, row.expires_at or now + FRESH_S), Principal(tenancy, row.role)
        return self._known[digest][1]

    def clear_cache(self) -> None:
        """A key has been revoked here: look all of them up anew."""
        self._known.clear()
