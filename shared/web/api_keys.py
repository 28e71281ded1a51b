"""API keys and their principals. Every service with an HTTP API keeps this table up to date from `access.events`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cachetools import TLRUCache
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
    """A key by its hash. The key itself is shown once and never stored."""

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
    rights: str | None = None
    """Rights beside the role, separated by spaces."""


ACCESS = table_of(AccessRow)
FRESH_S = 2.0
"""How long a looked-up key is cached. A key that another process revokes is accepted here for so long."""
MOST_KNOWN = 10_000
EXPIRED_KEPT_S = 86_400
"""How long an expired key is kept, so that a late revocation finds it."""
KEY_CREDENTIAL = "key"
"""Kind of the credentials of API keys and tokens."""
KEY_HEADERS = ("x-tagshelfapi-key", "x-api-key")
"""Headers that carry a key, in small letters. We name `X-API-Key`; the other is that of Alfred's clients."""
NEEDS_KEY = "A valid key is needed: X-API-Key, or Authorization: Bearer."


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. Its tenant comes from the credential alone."""

    tenancy: Tenancy
    role: str
    rights: frozenset[str] = frozenset()
    """Rights that were granted beside the role."""
    credential: str = ""
    """What proved the caller, e.g. `key:<hash>`; empty for a caller without a credential. `shared/web/revocation.py` watches it."""

    @property
    def tenant_id(self) -> str:
        return self.tenancy.tenant_id

    def has_right(self, right: str) -> bool:
        """True when the right was granted, or comes with the role: operators and admins have all rights."""
        return right in self.rights or self.role in ("admin", "operator")

    def may(self, *roles: str) -> bool:
        """True when the role is one of `roles`, or `admin`."""
        return self.role == "admin" or self.role in roles


def apply_access(unit: Unit, batch: Sequence[Inbound], owns_topic: bool = False) -> None:
    """Enter issued and revoked keys into the table. A revoked key stays revoked, in whatever order repeats arrive.

    `owns_topic`: this service writes `access.events`, and deletes expired keys from the topic too.
    """
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
    """Enter a key unless it is known, also as a revoked one. Returns True when it is new."""
    exclusive(connection, "access")
    if connection.execute(select(ACCESS.c.revoked).where(ACCESS.c.key_hash == event.key_hash)).first() is not None:
        return False
    fields = event.model_dump(include={"key_hash", "tenant_id", "tenant_name", "user_name", "role", "prefix"})
    expires_at = event.expires_at.timestamp() if event.expires_at else None
    rights = " ".join(event.rights or ()) or None
    connection.execute(ACCESS.insert().values(**fields, revoked=False, expires_at=expires_at, rights=rights))
    return True


def forget_expired(unit: Unit, owns_topic: bool) -> None:
    """Delete keys that expired over a day ago; every sign-in issues a short-lived one. `owns_topic`: also from the compacted topic."""
    over = ACCESS.delete().where(ACCESS.c.expires_at < unit.now - EXPIRED_KEPT_S).returning(ACCESS.c.key_hash)
    for digest in unit.connection.execute(over).scalars().all():
        if owns_topic:
            unit.emit_tombstone(ACCESS_EVENTS_TOPIC.name, digest)


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    expires_at: float | None


def _known_until(digest: str, known: _Known, now: float) -> float:
    return now + FRESH_S if known.expires_at is None else min(now + FRESH_S, known.expires_at)


class Keyring:
    """Looks up presented keys in the service's own table, with a short cache."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: TLRUCache[str, _Known] = TLRUCache(MOST_KNOWN, _known_until, clock.unix)

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """The principal of a request by `X-TagshelfAPI-Key`, `X-API-Key` or `Authorization: Bearer`; None without a valid key."""
        # The first header that is present decides, even when empty: no other header replaces a wrong key.
        presented = next((headers[name] for name in KEY_HEADERS if name in headers), None)
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if presented is None and scheme.lower() == "bearer":
            presented = value.strip()
        return await self.principal_of(presented or "")

    async def principal_of(self, presented: str) -> Principal | None:
        """The principal of a key; None when it is unknown, revoked or expired."""
        return await self.holder_of(key_hash(presented)) if presented and well_formed(presented) else None

    async def holder_of(self, digest: str) -> Principal | None:
        """The principal of the key with this hash; None when it is unknown, revoked or expired."""
        if (known := self._known.get(digest)) is not None:
            return known.principal
        row = await self.store.look_up(lambda c: c.execute(select(ACCESS).where(ACCESS.c.key_hash == digest)).first())
        if row is None or row.revoked or (row.expires_at is not None and row.expires_at <= clock.unix()):
            return None
        tenancy = Tenancy(tenant_id=row.tenant_id, tenant_name=row.tenant_name, user_name=row.user_name)
        principal = Principal(tenancy, row.role, frozenset((row.rights or "").split()), f"{KEY_CREDENTIAL}:{digest}")
        self._known[digest] = _Known(principal, row.expires_at)
        return principal

    async def valid_keys(self, hashes: Collection[str]) -> set[str]:
        """Those of the keys, by hash, that are neither revoked nor expired now. The cache is not used."""
        known = select(ACCESS.c.key_hash, ACCESS.c.expires_at).where(ACCESS.c.key_hash.in_(hashes), ACCESS.c.revoked == False)  # noqa: E712
        rows = await self.store.read(lambda c: c.execute(known).all())
        return {row.key_hash for row in rows if row.expires_at is None or row.expires_at > clock.unix()}

    def clear_cache(self) -> None:
        """Look up all keys again, after one was revoked in this process."""
        self._known.clear()
