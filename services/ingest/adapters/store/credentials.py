"""Revokes credentials, in the transaction of the act that asks for it. `shared/web/revocation.py` then ends what they have open."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from contracts import AccessKeyRevoked, derived
from contracts.topics import ACCESS_EVENTS_TOPIC
from services.ingest.adapters.store.accounts import APPS
from services.ingest.adapters.store.shares import revoke_links_of
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.api_keys import ACCESS


def revoke_key(unit: Unit, key_id: str, tenant: str) -> None:
    """Revoke a key or token, here and by an event for the other services."""
    event = AccessKeyRevoked(event_id=derived(key_id, "revoked"), key_hash=key_id, tenant_id=tenant, occurred_at=clock.now())
    unit.connection.execute(ACCESS.update().where(ACCESS.c.key_hash == key_id).values(revoked=True))
    unit.emit(ACCESS_EVENTS_TOPIC.name, event, None)


def revoke_tokens(unit: Unit, user_name: str, tenant: str) -> None:
    """Revoke what was issued for the user's password."""
    _revoke_keys(unit, user_name, tenant, ACCESS.c.expires_at > unit.now)


def revoke_all(unit: Unit, user_name: str, tenant: str) -> None:
    """Revoke all tokens, keys, signing applications and shared links under the user's name."""
    _revoke_keys(unit, user_name, tenant)
    apps = (APPS.c.user_name == user_name) & (APPS.c.tenant_id == tenant)
    unit.connection.execute(APPS.update().where(apps).values(revoked=True))
    revoke_links_of(unit.connection, user_name, tenant)


def _revoke_keys(unit: Unit, user_name: str, tenant: str, *more: ColumnElement[bool]) -> None:
    mine = (ACCESS.c.user_name == user_name, ACCESS.c.tenant_id == tenant, ACCESS.c.revoked == False)  # noqa: E712
    for key_id in unit.connection.execute(select(ACCESS.c.key_hash).where(*mine, *more)).scalars().all():
        revoke_key(unit, key_id, tenant)
