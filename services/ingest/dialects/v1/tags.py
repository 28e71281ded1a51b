"""Tags and metadata definitions in our own API; Alfred's clients read them (`tag/all`, `metadata/all`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from services.ingest.adapters.store import catalogue
from services.ingest.adapters.store.accounts import note_act
from services.ingest.http.dependencies import GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError
from shared import clock

router = APIRouter(prefix="/v1", tags=["Tags"], max_body_size=64 << 10)
Name = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Tag(BaseModel):
    """What the tag is for."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(default="", max_length=1000)


class Definition(BaseModel):
    """A data point; `tag` says of which files, null of all."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(default="", max_length=1000)
    data_type: Literal["text", "number", "date", "boolean", "amount"] = "text"
    tag: str | None = Field(default=None, min_length=1, max_length=100)


@router.get("/tags", summary="Tags")
async def tags(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """Those of the built-in rules and the tenant's own."""
    return {"result": await gateway.store.read(lambda c: catalogue.tags(c, who.tenant_id))}


@router.put("/tags/{name}", summary="Create or edit a tag")
async def put_tag(name: Name, gateway: GatewayDep, who: Operator, body: Annotated[Tag, Body()]) -> dict[str, str]:
    """A tag's name is its id. Files get it when a step's rules say so (`text.classify`, `config.rules`)."""

    def enter(connection: Connection) -> None:
        catalogue.save_tag(connection, who.tenant_id, name, body.description, clock.unix())
        note_act(connection, who, clock.unix(), "tag.put", name)

    await gateway.store.transact(enter)
    return {"id": name, "name": name, "description": body.description}


@router.delete("/tags/{name}", status_code=204, summary="Delete a tag")
async def delete_tag(name: Name, gateway: GatewayDep, who: Operator) -> None:
    """Files that have it keep it. Built-in tags stay; only their description goes."""
    await _drop(gateway, who, "tag", name)


@router.put("/metadata/{name}", summary="Create or edit a metadata definition")
async def put_definition(name: Name, gateway: GatewayDep, who: Operator, body: Annotated[Definition, Body()]) -> dict[str, Any]:
    """A data point's name is its id, and the key under which `fields.extract` reports it."""

    def enter(connection: Connection) -> None:
        catalogue.save_definition(connection, who.tenant_id, name, body.model_dump(), clock.unix())
        note_act(connection, who, clock.unix(), "metadata.put", name)

    await gateway.store.transact(enter)
    return {"id": name, "name": name, **body.model_dump()}


@router.delete("/metadata/{name}", status_code=204, summary="Delete a metadata definition")
async def delete_definition(name: Name, gateway: GatewayDep, who: Operator) -> None:
    """Values that were read stay."""
    await _drop(gateway, who, "metadata_definition", name)


async def _drop(gateway: GatewayDep, who: Operator, table: Literal["tag", "metadata_definition"], name: str) -> None:
    def drop(connection: Connection) -> int:
        statement = text(f"DELETE FROM {table} WHERE tenant_id = :t AND name = :n")
        gone = connection.execute(statement, {"t": who.tenant_id, "n": name}).rowcount
        if gone:
            note_act(connection, who, clock.unix(), f"{table}.delete", name)
        return gone

    if not await gateway.store.transact(drop):
        raise ApiError(404, f"There is no {table.replace('_', ' ')} {name}.")
