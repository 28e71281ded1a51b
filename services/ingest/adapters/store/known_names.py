"""Names of tags and of extracted values that files of a tenant have, so that the id of each is found again.

An id that clients see is derived from a name, which cannot be read back from it. A name stays until its tenant is erased.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts.alfred_view import metadata_id, tag_id
from shared.database.bulk_statements import BulkStatement

Kind = Literal["tag", "metadata"]
Name = tuple[str, Kind, str]
"""Tenant, kind and name."""
_ID: Mapping[Kind, Callable[[str, str], str]] = {"tag": tag_id, "metadata": metadata_id}


class KnownNameRow(SQLModel, table=True):
    """A name that a file of the tenant has, or had. By its id, because workers choose names of any length."""

    __tablename__ = "known_name"
    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    kind: str
    name: str
    """As JSON in ASCII: PostgreSQL stores no null character."""


MODELS: tuple[type[SQLModel], ...] = (KnownNameRow,)
_ADD = BulkStatement(
    "INSERT INTO known_name (tenant_id, id, kind, name) VALUES (:t, :i, :k, :n) ON CONFLICT DO NOTHING",
    "INSERT INTO known_name (tenant_id, id, kind, name) SELECT * FROM unnest(CAST(:t AS text[]), CAST(:i AS text[]), "
    "CAST(:k AS text[]), CAST(:n AS text[])) ON CONFLICT DO NOTHING",
)
_NAMES = text("SELECT name FROM known_name WHERE tenant_id = :t AND kind = :k")


def names_in(record: dict[str, Any]) -> list[Name]:
    """The names in a file's record."""
    tenant, fields, tag = record["company_id"], record.get("fields"), record.get("tag_name")
    found: list[Name] = [(tenant, "metadata", name) for name in fields] if isinstance(fields, dict) else []
    return [*found, (tenant, "tag", tag)] if tag else found


def add_names(connection: Connection, names: Iterable[Name]) -> None:
    """Add names. One that is known stays."""
    found = sorted(set(names))
    _ADD.run(connection, [{"t": t, "i": _ID[kind](t, name), "k": kind, "n": json.dumps(name)} for t, kind, name in found])


def names(connection: Connection, tenant: str, kind: Kind) -> set[str]:
    """All names of a kind that files of the tenant have, or had."""
    return {json.loads(name) for name in connection.execute(_NAMES, {"t": tenant, "k": kind}).scalars()}
