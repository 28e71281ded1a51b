"""The store of seal keys (`contracts/sealing.py`) in SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts.sealing import MAIN, Node, Tree, pack, unpack
from shared.database.statements import Statement, exclusive


class SealKeyRow(SQLModel, table=True):
    """A seal key. Records are sealed with it from `created_at` until a minute or so after `used_until` (Unix seconds)."""

    __tablename__ = "seal_key"
    id: str = Field(primary_key=True)
    created_at: float
    used_until: float | None = None


class SealPartRow(SQLModel, table=True):
    """One part of a seal key's tree. The only copy beside the topic: an erasure replaces it in the same transaction."""

    __tablename__ = "seal_part"
    key_id: str = Field(primary_key=True)
    part: int = Field(primary_key=True)
    version: int
    nodes: str


MODELS: tuple[type[SQLModel], ...] = (SealKeyRow, SealPartRow)
_NEWEST = text("SELECT max(created_at) FROM seal_key")
_RETIRE = text("UPDATE seal_key SET used_until = :now WHERE used_until IS NULL")
_ADD = text("INSERT INTO seal_key (id, created_at) VALUES (:id, :now)")
_SINCE = text("SELECT id, created_at FROM seal_key WHERE used_until IS NULL OR used_until >= :since ORDER BY id")
_OLD = text("SELECT id FROM seal_key WHERE used_until < :before")
_PARTS = Statement("SELECT part, nodes FROM seal_part WHERE key_id = :id AND part IN (SELECT CAST(value AS int) FROM [parts])")
_PART_NUMBERS = text("SELECT part FROM seal_part WHERE key_id = :id")
_WRITE = text(
    "INSERT INTO seal_part (key_id, part, version, nodes) VALUES (:id, :part, 1, :nodes) "
    "ON CONFLICT (key_id, part) DO UPDATE SET version = seal_part.version + 1, nodes = excluded.nodes RETURNING version"
)


class SqlSealStore:
    """`SealStore` on a connection. All replicas take one lock, because each change reads what it replaces."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def lock(self) -> None:
        exclusive(self.connection, "seal keys")

    def newest_at(self) -> float | None:
        found: float | None = self.connection.execute(_NEWEST).scalar()
        return found

    def add(self, key_id: str, now: float) -> None:
        self.connection.execute(_RETIRE, {"now": now})
        self.connection.execute(_ADD, {"id": key_id, "now": now})

    def used_since(self, since: float) -> Mapping[str, float]:
        return {row.id: row.created_at for row in self.connection.execute(_SINCE, {"since": since})}

    def tree(self, key_id: str, part: int) -> dict[Node, bytes]:
        found: dict[Node, bytes] = {}
        for row in _PARTS.rows(self.connection, {"id": key_id, "parts": f'["{MAIN}", "{part}"]'}):
            found |= unpack(row.nodes)
        return found

    def write(self, key_id: str, tree: Tree, parts: Collection[int]) -> Mapping[int, tuple[int, str]]:
        written: dict[int, tuple[int, str]] = {}
        for part in parts:
            values: dict[str, Any] = {"id": key_id, "part": part, "nodes": pack(tree, part)}
            written[part] = (self.connection.execute(_WRITE, values).scalar_one(), values["nodes"])
        return written

    def forget_old(self, before: float) -> Mapping[str, list[int]]:
        old = self.connection.execute(_OLD, {"before": before}).scalars().all()
        found = {key_id: list(self.connection.execute(_PART_NUMBERS, {"id": key_id}).scalars()) for key_id in old}
        for key_id in found:
            self.connection.execute(text("DELETE FROM seal_part WHERE key_id = :id"), {"id": key_id})
            self.connection.execute(text("DELETE FROM seal_key WHERE id = :id"), {"id": key_id})
        return found
