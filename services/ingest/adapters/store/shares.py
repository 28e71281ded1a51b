"""Shared links: who made them, for how long, and whether they still hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from shared.database.statements import Statement, as_list
from shared.web.api_keys import Principal

CREDENTIAL = "share"
"""Kind of the credential that a link is."""


class ShareRow(SQLModel, table=True):
    """A shared link to a file, by the hash of its token. A link of a release before 0.4.0 has no maker."""

    __tablename__ = "share_link"
    token_hash: str = Field(primary_key=True)
    file_id: str = Field(index=True)
    tenant_id: str
    expires_at: float = Field(index=True)
    created_at: float | None = None
    created_by: str | None = None
    credential: str | None = None
    """What its maker proved itself with. The link ends when that is revoked, though not when it expires."""


MODELS: tuple[type[SQLModel], ...] = (ShareRow,)
_OLD = text("DELETE FROM share_link WHERE expires_at < :now")
_ADD = text(
    "INSERT INTO share_link (token_hash, file_id, tenant_id, expires_at, created_at, created_by, credential) "
    "VALUES (:h, :f, :t, :until, :now, :by, :c)"
)
# A credential is `key:<hash>` or `amx:<application>`. An expired key is no revoked one.
_MAKER_HOLDS = (
    "NOT EXISTS (SELECT 1 FROM access_key k WHERE k.key_hash = substr(s.credential, 5) AND k.revoked = :yes) "
    "AND NOT EXISTS (SELECT 1 FROM amx_app a WHERE a.app_id = substr(s.credential, 5) AND a.revoked = :yes)"
)
_FIND = text(
    f"SELECT s.file_id, s.tenant_id, s.created_by FROM share_link s WHERE s.token_hash = :h AND s.expires_at > :now AND {_MAKER_HOLDS}"
)
_VALID = Statement(
    f"SELECT s.token_hash FROM share_link s WHERE s.token_hash IN (SELECT value FROM [ids]) AND s.expires_at > :now AND {_MAKER_HOLDS}"
)
_LIST = text(
    "SELECT s.token_hash, s.file_id, s.expires_at, s.created_at, s.created_by FROM share_link s "
    f"WHERE s.tenant_id = :t AND s.expires_at > :now AND {_MAKER_HOLDS} ORDER BY s.expires_at DESC, s.token_hash LIMIT :n"
)
_REVOKE = text("DELETE FROM share_link WHERE token_hash = :h AND tenant_id = :t RETURNING file_id")
_OF_USER = text("DELETE FROM share_link WHERE created_by = :u AND tenant_id = :t")


def add_link(connection: Connection, who: Principal, token_hash: str, file_id: str, until: float, now: float) -> None:
    """Enter a link that ends at `until`, and forget those that are over. Times in Unix seconds."""
    connection.execute(_OLD, {"now": now})
    values = {"h": token_hash, "f": file_id, "t": who.tenant_id, "until": until, "now": now}
    connection.execute(_ADD, {**values, "by": who.tenancy.user_name, "c": who.credential or None})


def find_link(connection: Connection, token_hash: str, now: float) -> Any:
    """The link's row (file, tenant, maker); None when it does not exist, is over, or its maker's credential is revoked."""
    return connection.execute(_FIND, {"h": token_hash, "now": now, "yes": True}).first()


def valid_links(connection: Connection, hashes: Collection[str], now: float) -> set[str]:
    """Those of the links, by hash, that `find_link` finds."""
    return set(_VALID.run(connection, {"ids": as_list(hashes), "now": now, "yes": True}).scalars())


def list_links(connection: Connection, tenant: str, now: float, most: int) -> Sequence[Any]:
    """The tenant's links that still hold, those that end last first."""
    return connection.execute(_LIST, {"t": tenant, "now": now, "n": most, "yes": True}).all()


def revoke_link(connection: Connection, token_hash: str, tenant: str) -> str | None:
    """End a link; returns the file that it led to, or None without such a link."""
    found: str | None = connection.execute(_REVOKE, {"h": token_hash, "t": tenant}).scalar()
    return found


def revoke_links_of(connection: Connection, user_name: str, tenant: str) -> None:
    """End all links that a user made."""
    connection.execute(_OF_USER, {"u": user_name, "t": tenant})
