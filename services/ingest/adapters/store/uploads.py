"""Tables of resumable uploads. Received bytes are parts in the object store; offsets are rows, so any replica can continue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, Connection, text
from sqlmodel import Field, SQLModel

from contracts import derived
from services.ingest.adapters.store import reservations
from services.ingest.adapters.store.reservations import HOLD_S, Caps, Place, limits
from shared.database.statements import Statement

State = Literal["open", "whole", "done", "failed"]
Concat = Literal["", "partial", "final"]


class UploadRow(SQLModel, table=True):
    """An upload: `open` takes bytes, `whole` is complete and being assembled, `done` is a file of its session, `failed` never
    will be."""

    __tablename__ = "upload"
    id: str = Field(primary_key=True)
    tenant_id: str
    tenant_name: str
    user_name: str
    session_id: str
    file_name: str
    content_type: str
    metadata_: str = Field(sa_column_kwargs={"name": "metadata"})
    said: str
    """`Upload-Metadata` as the client sent it."""
    length: int | None = Field(default=None, sa_type=BigInteger)
    position: int = Field(sa_type=BigInteger)
    state: str
    concat: str
    code: str | None = None
    message: str | None = None
    expires_at: float = Field(index=True)
    due_at: float | None = Field(default=None, index=True)
    """When it is to be assembled; during assembly, when the lease ends."""


class PartRow(SQLModel, table=True):
    """A part of an upload's bytes."""

    __tablename__ = "upload_part"
    upload_id: str = Field(primary_key=True)
    start: int = Field(primary_key=True, sa_type=BigInteger)
    size: int = Field(sa_type=BigInteger)
    blob: str


MODELS: tuple[type[SQLModel], ...] = (UploadRow, PartRow)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + size`, in the object `blob`."""

    start: int
    size: int
    blob: str


_ENTER = text(
    "INSERT INTO upload (id, tenant_id, tenant_name, user_name, session_id, file_name, content_type, metadata, said, length, position, state, "
    "concat, expires_at) VALUES (:id, :tenant_id, :tenant_name, :user_name, :session_id, :file_name, :content_type, :metadata, :said, :length, 0, "
    "'open', :concat, :expires_at) ON CONFLICT DO NOTHING"
)
_BY_ID = text("SELECT * FROM upload WHERE id = :i AND tenant_id = :t")
_MOVE = text(
    "UPDATE upload SET position = :new, expires_at = :expires WHERE id = :i AND position = :old AND state = 'open' "
    "AND (length IS NULL OR :new <= length)"
)
_PART = text("INSERT INTO upload_part (upload_id, start, size, blob) VALUES (:i, :start, :size, :blob)")
_WHOLE = text(
    "UPDATE upload SET state = 'whole', due_at = :now WHERE id = :i AND state = 'open' AND position = length AND concat <> 'partial'"
)
_CLAIM = text("UPDATE upload SET due_at = :later WHERE id = :i AND state = 'whole' AND due_at <= :now")
_END = text(
    "UPDATE upload SET state = :state, code = :code, message = :message, due_at = NULL WHERE id = :i AND state IN ('open', 'whole')"
)
_OWNER = "(SELECT tenant_id FROM upload WHERE id = :i)"
_KEEP_PLACE = text(f"UPDATE reservation SET expires_at = :until WHERE tenant_id = {_OWNER} AND id = :i")
_DROP_PLACE = text(f"DELETE FROM reservation WHERE tenant_id = {_OWNER} AND id = :i")
_PARTS = text("SELECT start, size, blob FROM upload_part WHERE upload_id = :i ORDER BY start")
_NAMED = Statement("SELECT blob FROM upload_part WHERE blob IN (SELECT value FROM [blobs])")
_EXPIRED = text("SELECT id FROM upload WHERE expires_at < :now AND state <> 'whole' LIMIT 20")


def file_id_of(upload_id: str) -> str:
    """Id of the file that an upload becomes."""
    return derived(upload_id, "file")


def needed(connection: Connection, blobs: Sequence[str]) -> set[str]:
    """Those of `blobs` that a row names."""
    return set(_NAMED.run(connection, {"blobs": json.dumps(list(blobs))}).scalars())


def enter(connection: Connection, row: dict[str, Any]) -> bool:
    """Add an upload. Returns False, and changes nothing, when it is there already."""
    return bool(connection.execute(_ENTER, {**row, "metadata": json.dumps(row["metadata"])}).rowcount)


def reserve(connection: Connection, row: dict[str, Any], caps: Caps, files: int, size: int, now: float) -> None:
    """Reserve what a new upload takes, as long as it may wait for bytes. Raises `OverLimit`."""
    place = Place(row["id"], files=files, bytes=size)
    if limits(caps, [place]):
        reservations.reserve(connection, row["tenant_id"], caps, [place], now, row["expires_at"] - now + HOLD_S)


def find(connection: Connection, upload_id: str, tenant: str) -> Any:
    """The tenant's upload; None if there is none."""
    return connection.execute(_BY_ID, {"i": upload_id, "t": tenant}).first()


def advance(connection: Connection, upload_id: str, position: int, new: Sequence[Part], expires_at: float) -> bool:
    """Add parts after `position` and move on. Returns False, and changes nothing, when another request has moved the position."""
    end = new[-1].start + new[-1].size
    values = {"i": upload_id, "old": position, "new": end, "expires": expires_at}
    if not connection.execute(_MOVE, values).rowcount:
        return False
    connection.execute(_PART, [{"i": upload_id, "start": p.start, "size": p.size, "blob": p.blob} for p in new])
    connection.execute(_KEEP_PLACE, {"i": upload_id, "until": expires_at + HOLD_S})
    return True


def set_length(connection: Connection, upload_id: str, length: int) -> bool:
    """Set the length. Returns False when it is set already, or more bytes were received."""
    say = text("UPDATE upload SET length = :n WHERE id = :i AND length IS NULL AND position <= :n")
    return bool(connection.execute(say, {"i": upload_id, "n": length}).rowcount)


def mark_whole(connection: Connection, upload_id: str, now: float) -> bool:
    """Hand a complete upload to assembly. Returns False when it is not complete or not open."""
    return bool(connection.execute(_WHOLE, {"i": upload_id, "now": now}).rowcount)


def join(connection: Connection, final_id: str, partial_ids: Sequence[str], tenant: str, now: float) -> str | None:
    """Move the parts of partial uploads to `final_id` and delete the partial ones.

    Returns the id of one that is not complete, else None. The caller must roll the transaction back then.
    """
    position = 0
    for partial_id in partial_ids:
        row = find(connection, partial_id, tenant)
        if row is None or row.concat != "partial" or row.length is None or row.position != row.length:
            return partial_id
        for part in parts_of(connection, partial_id):
            values = {"i": final_id, "start": position + part.start, "size": part.size, "blob": part.blob}
            connection.execute(_PART, values)
        position += row.length
        connection.execute(_DROP_PLACE, {"i": partial_id})
        connection.execute(text("DELETE FROM upload_part WHERE upload_id = :i"), {"i": partial_id})
        connection.execute(text("DELETE FROM upload WHERE id = :i"), {"i": partial_id})
    move = text("UPDATE upload SET position = :p, length = :p WHERE id = :i")
    connection.execute(move, {"i": final_id, "p": position})
    mark_whole(connection, final_id, now)
    return None


def claim(connection: Connection, upload_id: str, now: float, lease_s: float) -> bool:
    """Lease an upload for its assembly, for `lease_s` seconds. Returns False when it is leased or has ended."""
    return bool(connection.execute(_CLAIM, {"i": upload_id, "later": now + lease_s, "now": now}).rowcount)


def renew(connection: Connection, upload_id: str, until: float) -> None:
    """Extend the lease until `until` (Unix seconds)."""
    connection.execute(text("UPDATE upload SET due_at = :u WHERE id = :i AND state = 'whole'"), {"i": upload_id, "u": until})


def end(connection: Connection, upload_id: str, state: State, code: str | None = None, message: str | None = None) -> bool:
    """End an upload as `done` or `failed`, delete its parts and its reservation. Returns False when it has ended before."""
    ended = bool(connection.execute(_END, {"i": upload_id, "state": state, "code": code, "message": message}).rowcount)
    connection.execute(_DROP_PLACE, {"i": upload_id})
    connection.execute(text("DELETE FROM upload_part WHERE upload_id = :i"), {"i": upload_id})
    return ended


def parts_of(connection: Connection, upload_id: str) -> list[Part]:
    """The received parts in order."""
    return [Part(r.start, r.size, r.blob) for r in connection.execute(_PARTS, {"i": upload_id})]


def expired(connection: Connection, now: float) -> list[str]:
    """Ids of at most 20 uploads that have expired."""
    return list(connection.execute(_EXPIRED, {"now": now}).scalars())


def forget(connection: Connection, upload_id: str) -> list[str]:
    """Delete an upload. Returns the objects of its parts, which the caller deletes."""
    blobs = [p.blob for p in parts_of(connection, upload_id)]
    connection.execute(_DROP_PLACE, {"i": upload_id})
    connection.execute(text("DELETE FROM upload_part WHERE upload_id = :i"), {"i": upload_id})
    connection.execute(text("DELETE FROM upload WHERE id = :i"), {"i": upload_id})
    return blobs
