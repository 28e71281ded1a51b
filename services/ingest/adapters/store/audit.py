"""The audit: who did what, in a chain of hashes over all rows of this database, so that a changed or missing row shows.

The hash of a row covers its number in the chain, its content and the hash before it. Rows that a release before 0.4.0 wrote have no
number; `adopt` appends them. Pruning moves the anchor, which is the number and hash that the oldest kept row follows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Index, text
from sqlmodel import Field, SQLModel

from services.ingest.core.job_view import text as shown_time
from shared.database.statements import exclusive
from shared.database.store import BIG_ID
from shared.web.api_keys import Principal

Record = dict[str, Any]
GENESIS = "0" * 64
"""The hash before the first row."""
KEPT_S = 400 * 86_400
PART = 2000
"""Rows that one transaction adopts, prunes or verifies at most."""


class AuditRow(SQLModel, table=True):
    """An act, a command or a refusal. `seq` and `hash` are its place in the chain; None until a row of an older release is adopted."""

    __tablename__ = "audit"
    id: int | None = Field(default=None, primary_key=True, sa_type=BIG_ID)
    tenant_id: str
    at: float
    body: str
    seq: int | None = Field(default=None, sa_type=BIG_ID)
    hash: str | None = None
    __table_args__ = (Index("audit_newest", "tenant_id", "id"), Index("audit_seq", "seq", unique=True))


class AuditChainRow(SQLModel, table=True):
    """The ends of the chain: one row. `anchor_*` stand before the oldest kept row, `head_*` are those of the newest."""

    __tablename__ = "audit_chain"
    id: int = Field(primary_key=True)
    anchor_seq: int = Field(sa_type=BigInteger)
    anchor_hash: str
    head_seq: int = Field(sa_type=BigInteger)
    head_hash: str


MODELS: tuple[type[SQLModel], ...] = (AuditRow, AuditChainRow)
_ENDS = text("SELECT anchor_seq, anchor_hash, head_seq, head_hash FROM audit_chain WHERE id = 1")
_BEGIN = text(
    "INSERT INTO audit_chain (id, anchor_seq, anchor_hash, head_seq, head_hash) VALUES (1, 0, :g, 0, :g) ON CONFLICT DO NOTHING"
)
_HEAD = text("UPDATE audit_chain SET head_seq = :s, head_hash = :h WHERE id = 1")
_ANCHOR = text("UPDATE audit_chain SET anchor_seq = :s, anchor_hash = :h WHERE id = 1")
_ADD = text("INSERT INTO audit (tenant_id, at, body, seq, hash) VALUES (:tenant, :at, :body, :seq, :hash)")
_LOOSE = text("SELECT id, tenant_id, at, body FROM audit WHERE seq IS NULL ORDER BY id LIMIT :n")
_PLACE = text("UPDATE audit SET seq = :seq, hash = :hash WHERE id = :id")
_NEXT = text("SELECT seq, at, hash FROM audit WHERE seq > :s ORDER BY seq LIMIT :n")
_PRUNE = text("DELETE FROM audit WHERE seq <= :s")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit of `tenant`. `at` is in Unix seconds; `count` is the number of equal acts that the line stands for."""

    tenant: str
    at: float
    verb: str
    subject: str
    by: str = ""
    ok: bool = True
    code: str | None = None
    message: str | None = None
    by_tenant: str | None = None
    address: str | None = None
    count: int = 1
    reason: str = ""

    def body(self) -> str:
        """The line as `GET /v1/audit` shows it."""
        shown: Record = {
            "subject": self.subject, "verb": self.verb, "ok": self.ok, "code": self.code, "message": self.message, "by": self.by,
            "by_tenant": self.by_tenant or self.tenant, "reason": self.reason, "job_id": None, "command_id": None,
            "occurred_at": shown_time(datetime.fromtimestamp(self.at, UTC)),
        }  # fmt: skip
        shown |= {"address": self.address} if self.address else {}
        return json.dumps(shown | ({"count": self.count} if self.count > 1 else {}))


def add_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Append lines. Call it in the transaction of the acts."""
    append(connection, [(e.tenant, e.at, e.body()) for e in entries])


def add_audit(connection: Connection, who: Principal, at: float, verb: str, subject: str, tenant: str | None = None) -> None:
    """Append an administrative act of `who` to the audit of the tenant it concerns. Call it in the transaction of the act."""
    entry = Entry(tenant or who.tenant_id, at, verb, subject, who.tenancy.user_name, by_tenant=who.tenant_id)
    add_entries(connection, [entry])


def link(previous: str, seq: int, tenant: str, at: float, body: str) -> str:
    """The hash of a row: SHA-256 over the hash before it, its number and its content."""
    return hashlib.sha256(json.dumps([previous, seq, tenant, float(at), body]).encode()).hexdigest()


def _ends(connection: Connection) -> Any:
    """The ends of the chain, which no other replica changes until this transaction is over."""
    exclusive(connection, "audit")
    found = connection.execute(_ENDS).first()
    if found is None:
        connection.execute(_BEGIN, {"g": GENESIS})
        found = connection.execute(_ENDS).one()
    return found


def append(connection: Connection, rows: Sequence[tuple[str, float, str]]) -> None:
    """Append rows of (tenant, Unix time, body) to the chain."""
    if not rows:
        return
    ends = _ends(connection)
    seq, digest, values = ends.head_seq, ends.head_hash, []
    for tenant, at, body in rows:
        seq += 1
        digest = link(digest, seq, tenant, at, body)
        values.append({"tenant": tenant, "at": at, "body": body, "seq": seq, "hash": digest})
    connection.execute(_ADD, values)
    connection.execute(_HEAD, {"s": seq, "h": digest})


def adopt(connection: Connection) -> int:
    """Append at most `PART` rows that an older release wrote without a number; returns how many."""
    ends = _ends(connection)
    seq, digest, values = ends.head_seq, ends.head_hash, []
    for row in connection.execute(_LOOSE, {"n": PART}).all():
        seq += 1
        digest = link(digest, seq, row.tenant_id, row.at, row.body)
        values.append({"id": row.id, "seq": seq, "hash": digest})
    if values:
        connection.execute(_PLACE, values)
        connection.execute(_HEAD, {"s": seq, "h": digest})
    return len(values)


def prune(connection: Connection, before: float) -> int:
    """Delete at most `PART` rows from the old end of the chain, up to the first that is not older than `before`; returns how many."""
    ends = _ends(connection)
    last = None
    pruned = 0
    for row in connection.execute(_NEXT, {"s": ends.anchor_seq, "n": PART}).all():
        if row.at >= before:
            break
        last, pruned = row, pruned + 1
    if last is not None:
        connection.execute(_PRUNE, {"s": last.seq})
        connection.execute(_ANCHOR, {"s": last.seq, "h": last.hash})
    return pruned
