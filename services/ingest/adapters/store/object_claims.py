"""Which objects are needed, claimed or to be deleted, so that no deletion takes an object that is uploaded again at the same time.

Equal content is one object. An upload claims its object before a command names it; a deletion takes a lease that it gets only while
nothing needs or claims the object. Both look at the other's row in one transaction under a lock on the object's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Index, text
from sqlmodel import Field, SQLModel

from services.ingest.adapters.store import reservations
from shared.backoff import backoff
from shared.database.bulk_statements import BulkStatement
from shared.database.statements import Statement, exclusive

CLAIM_S = 86_400.0
"""Seconds that a claim holds. By then the file is in the read model, or its upload has failed."""
LEASE_S = 60.0
"""Seconds that one deletion may take."""
LONGEST_S = 3600.0
"""Longest time until an object is tried again that could not be deleted."""


class ClaimRow(SQLModel, table=True):
    """An object that an upload has stored for a file which the read model may not have yet."""

    __tablename__ = "object_claim"
    blob: str = Field(primary_key=True)
    file_id: str = Field(primary_key=True)
    at: float = Field(index=True)
    __table_args__ = (Index("object_claim_file", "file_id"),)


class DoomedObjectRow(SQLModel, table=True):
    """An object to delete unless something needs it. Times in Unix seconds."""

    __tablename__ = "doomed_object"
    blob: str = Field(primary_key=True)
    at: float
    """When it was found unneeded. An object that was written later stays."""
    next_at: float = Field(index=True)
    attempts: int
    deleting_until: float
    """End of the lease of its deletion; 0 when nobody deletes it."""


class Claim(NamedTuple):
    """What came of a claim: no deletion of the object is in progress; the claim is new; the file was counted now."""

    free: bool
    new: bool
    counted: bool


MODELS: tuple[type[SQLModel], ...] = (ClaimRow, DoomedObjectRow)
_CLAIM = text("INSERT INTO object_claim (blob, file_id, at) VALUES (:b, :f, :at) ON CONFLICT DO NOTHING")
_UNCLAIM = text("DELETE FROM object_claim WHERE blob = :b AND file_id = :f")
_CLAIMS_OF = text("SELECT count(*) FROM object_claim WHERE file_id = :f")
_OLD_CLAIMS = text("DELETE FROM object_claim WHERE at < :old")
_FILE = text("SELECT 1 FROM file_view WHERE id = :f")
_LEASED = text("SELECT 1 FROM doomed_object WHERE blob = :b AND deleting_until > :now")
_DOOMED_COLUMNS = "doomed_object (blob, at, next_at, attempts, deleting_until)"
# Found again while it waits: only what is written after that time stays.
_AGAIN = "ON CONFLICT (blob) DO UPDATE SET at = excluded.at"
_DOOM = BulkStatement(
    f"INSERT INTO {_DOOMED_COLUMNS} VALUES (:blob, :at, :at, 0, 0) {_AGAIN}",
    f"INSERT INTO {_DOOMED_COLUMNS} SELECT blob, at, at, 0, 0 FROM unnest(CAST(:blob AS text[]), CAST(:at AS double precision[])) "
    f"AS given(blob, at) {_AGAIN}",
)
# Rows that a replica of the previous release has written.
_TAKE_OVER = text(
    f"INSERT INTO {_DOOMED_COLUMNS} SELECT blob, CAST(:now AS double precision), 0, 0, 0 FROM blob_doomed WHERE true {_AGAIN}"
)
_DUE = text(
    "SELECT blob, at, attempts FROM doomed_object WHERE next_at <= :now AND deleting_until <= :now ORDER BY next_at LIMIT :n"
)
_NEEDED = text(
    "SELECT 1 FROM blob_ref WHERE blob = :b UNION ALL SELECT 1 FROM object_claim WHERE blob = :b AND at > :claimed UNION ALL "
    "SELECT 1 FROM silo_file WHERE blob = :b UNION ALL SELECT 1 FROM upload_part WHERE blob = :b UNION ALL "
    "SELECT 1 FROM index_pending WHERE blob = :b LIMIT 1"
)
_LEASE = text("UPDATE doomed_object SET deleting_until = :until WHERE blob = :b AND deleting_until <= :now")
_DONE = text("DELETE FROM doomed_object WHERE blob = :b")
_LATER = text("UPDATE doomed_object SET next_at = :at, attempts = attempts + 1, deleting_until = 0 WHERE blob = :b")
_ALL_NEEDED = Statement(
    "SELECT value FROM [blobs] WHERE EXISTS (SELECT 1 FROM blob_ref r WHERE r.blob = value) "
    "OR EXISTS (SELECT 1 FROM object_claim c WHERE c.blob = value AND c.at > :claimed) "
    "OR EXISTS (SELECT 1 FROM silo_file s WHERE s.blob = value) OR EXISTS (SELECT 1 FROM upload_part p WHERE p.blob = value) "
    "OR EXISTS (SELECT 1 FROM index_pending i WHERE i.blob = value)"
)


def claim(connection: Connection, blob: str, file_id: str, now: float) -> Claim:
    """Claim an object for a file, before it is stored. While an equal object is being deleted the claim is not `free`: wait until `is_free`."""
    exclusive(connection, f"object:{blob}")
    new = bool(connection.execute(_CLAIM, {"b": blob, "f": file_id, "at": now}).rowcount)
    return Claim(is_free(connection, blob, now), new, False)


def claims_of(connection: Connection, file_id: str) -> int:
    """How many objects are claimed for a file."""
    return int(connection.execute(_CLAIMS_OF, {"f": file_id}).scalar_one())


def is_free(connection: Connection, blob: str, now: float) -> bool:
    """True when no deletion of the object is in progress."""
    return connection.execute(_LEASED, {"b": blob, "now": now}).first() is None


def claim_and_count(connection: Connection, tenant: str, blob: str, file_id: str, size: int, now: float) -> Claim:
    """Claim an object, before it is stored, and count its file and bytes, once per file.

    A file that the read model has, or that an earlier request has claimed, is a repeat: it costs nothing.
    """
    exclusive(connection, f"object:{blob}")
    new = bool(connection.execute(_CLAIM, {"b": blob, "f": file_id, "at": now}).rowcount)
    counted = new and connection.execute(_FILE, {"f": file_id}).first() is None
    if counted:
        reservations.settle(connection, tenant, file_id, 1, size, now)
    return Claim(is_free(connection, blob, now), new, counted)


def unclaim(connection: Connection, blob: str, file_id: str, now: float) -> None:
    """Drop the claim of a file that was refused. The object is deleted unless something else needs it."""
    exclusive(connection, f"object:{blob}")
    connection.execute(_UNCLAIM, {"b": blob, "f": file_id})
    doom(connection, [blob], now)


def doom(connection: Connection, blobs: Iterable[str], now: float) -> None:
    """Note objects for deletion. Each is deleted only if nothing needs it by then."""
    _DOOM.run(connection, [{"blob": blob, "at": now} for blob in sorted(set(blobs))])


def take_over(connection: Connection, now: float) -> None:
    """Take over rows of the previous release's table."""
    connection.execute(_TAKE_OVER, {"now": now})
    connection.execute(text("DELETE FROM blob_doomed WHERE blob IN (SELECT blob FROM doomed_object)"))


def due(connection: Connection, now: float, limit: int) -> Sequence[Any]:
    """Objects whose deletion is due, those that wait longest first. Rows have `blob`, `at` and `attempts`."""
    return connection.execute(_DUE, {"now": now, "n": limit}).all()


def lease(connection: Connection, blob: str, now: float) -> bool:
    """Lease an object for its deletion. Returns False, and forgets it, when something needs it; False too while another replica has it."""
    exclusive(connection, f"object:{blob}")
    # The update comes first: on SQLite it takes the write lock, so that the claims that follow are the newest.
    if not connection.execute(_LEASE, {"b": blob, "until": now + LEASE_S, "now": now}).rowcount:
        return False
    if connection.execute(_NEEDED, {"b": blob, "claimed": now - CLAIM_S}).first() is not None:
        connection.execute(_DONE, {"b": blob})
        return False
    return True


def deleted(connection: Connection, blob: str) -> None:
    """The object is gone, or stays for good."""
    connection.execute(_DONE, {"b": blob})


def try_later(connection: Connection, blob: str, attempts: int, now: float) -> None:
    """The object could not be deleted: try again, each time later."""
    connection.execute(_LATER, {"b": blob, "at": now + min(LONGEST_S, backoff(1) * 2.0 ** min(attempts, 20))})


def needed(connection: Connection, blobs: Sequence[str], now: float) -> set[str]:
    """Those of `blobs` that a row of this service names."""
    return set(_ALL_NEEDED.run(connection, {"blobs": json.dumps(list(blobs)), "claimed": now - CLAIM_S}).scalars())


def forget_old_claims(connection: Connection, now: float) -> None:
    """Delete claims that no longer hold."""
    connection.execute(_OLD_CLAIMS, {"old": now - CLAIM_S})
