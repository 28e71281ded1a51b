"""Tables of tags and metadata definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from services.ingest.adapters.store import known_names

Record = dict[str, Any]
BUILT_IN = ("contract", "email", "invoice", "letter", "price_list", "receipt", "report")
"""Tags of the worker's built-in rules (`services/stage_worker/core/classify.py`); every tenant has them."""
MOST_FILES = 10_000
"""Most files in a report, newest jobs first."""


class TagRow(SQLModel, table=True):
    """A tag of a tenant. Its name is its id, in events as in the API."""

    __tablename__ = "tag"
    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    description: str = ""
    created_at: float
    updated_at: float


class DefinitionRow(SQLModel, table=True):
    """A value that is extracted from files: from those of one tag, or from all."""

    __tablename__ = "metadata_definition"
    tenant_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    description: str = ""
    data_type: str = "text"
    tag: str | None = None
    created_at: float
    updated_at: float


MODELS: tuple[type[SQLModel], ...] = (TagRow, DefinitionRow)
_TAG = text(
    "INSERT INTO tag (tenant_id, name, description, created_at, updated_at) VALUES (:t, :n, :d, :at, :at) "
    "ON CONFLICT (tenant_id, name) DO UPDATE SET description = excluded.description, updated_at = excluded.updated_at"
)
_DEFINITION = text(
    "INSERT INTO metadata_definition (tenant_id, name, description, data_type, tag, created_at, updated_at) "
    "VALUES (:t, :n, :d, :k, :g, :at, :at) ON CONFLICT (tenant_id, name) DO UPDATE SET "
    "description = excluded.description, data_type = excluded.data_type, tag = excluded.tag, updated_at = excluded.updated_at"
)
_FILES = text(
    "SELECT f.body FROM job_term t JOIN file_view f ON f.job_id = t.job_id WHERE t.tenant_id = :t AND t.term = :g "
    "ORDER BY t.created_at DESC, t.job_id, f.created_at, f.id LIMIT :n"
)


def save_tag(connection: Connection, tenant: str, name: str, description: str, at: float) -> None:
    """Add a tag or change its description."""
    connection.execute(_TAG, {"t": tenant, "n": name, "d": description, "at": at})


def tags(connection: Connection, tenant: str) -> list[Record]:
    """All tags of a tenant by name, with those that its files have: `{id, name, description}`."""
    query = text("SELECT name, description FROM tag WHERE tenant_id = :t")
    own = {r.name: r.description for r in connection.execute(query, {"t": tenant})}
    found = {**dict.fromkeys((*BUILT_IN, *known_names.names(connection, tenant, "tag")), ""), **own}
    return [{"id": name, "name": name, "description": found[name]} for name in sorted(found)]


def save_definition(connection: Connection, tenant: str, name: str, body: Record, at: float) -> None:
    """Add or change a metadata definition."""
    values = {"t": tenant, "n": name, "d": body["description"], "k": body["data_type"], "g": body["tag"], "at": at}
    connection.execute(_DEFINITION, values)


def definitions(connection: Connection, tenant: str) -> list[Record]:
    """All metadata definitions of a tenant by name."""
    query = text("SELECT * FROM metadata_definition WHERE tenant_id = :t ORDER BY name")
    return [_definition(r.name, r.description, r.data_type, r.tag) for r in connection.execute(query, {"t": tenant})]


def known_metadata(connection: Connection, tenant: str) -> list[Record]:
    """As `definitions`, with the values that files of the tenant have without one: text, of files of any tag."""
    found = {name: _definition(name, "", "text", None) for name in known_names.names(connection, tenant, "metadata")}
    found |= {d["name"]: d for d in definitions(connection, tenant)}
    return [found[name] for name in sorted(found)]


def _definition(name: str, description: str, data_type: str, tag: str | None) -> Record:
    return {"id": name, "name": name, "description": description, "data_type": data_type, "tag_id": tag, "tag_name": tag}


def files_tagged(connection: Connection, tenant: str, tag: str) -> Iterator[Record]:
    """Records of the files with a tag, newest jobs first, at most `MOST_FILES`. Recycled files are left out."""
    for body in connection.execute(_FILES, {"t": tenant, "g": f"tag:{tag}", "n": MOST_FILES}).scalars():
        record: Record = json.loads(body)
        if record["tag_name"] == tag and not record.get("recycled_at"):
            yield record


def plain(value: Any) -> str:
    """A value as text, as the vendor shows all values."""
    if isinstance(value, dict) and "value" in value:
        value = value["value"]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def values_of(record: Record) -> list[Record]:
    """The extracted values of a file, one row per metadata definition (reference/vendor-apis.md §1.6)."""
    return [
        {
            "id": f"{record['id']}:{name}", "file_log_id": record["id"], "metadata_id": name, "metadata_name": name,
            "value": plain(value), "classification_score": record["classification_score"],
        }
        for name, value in sorted((record["fields"] or {}).items())
        if value is not None
    ]  # fmt: skip
