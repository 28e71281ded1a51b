"""Tags and metadata definitions, under /v1. Alfred's clients read them by `tag/all` and `metadata/all`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from services.ingest.adapters.store import catalogue
from services.ingest.adapters.store.audit import add_audit
from services.ingest.http.answers.accounts import MetadataDefinition, TagLine, TagList
from services.ingest.http.dependencies import GatewayDep, Operator, Reader
from services.ingest.http.errors import ApiError
from shared import clock
from shared.web.openapi import answered

router = APIRouter(prefix="/v1", tags=["Tags"], max_body_size=64 << 10)
Name = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Tag(BaseModel):
    """Description of a tag."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(default="", max_length=1000)


class Definition(BaseModel):
    """A metadata definition. It applies to the files of `tag`; null means all files."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"description": "Amount to be paid", "data_type": "amount", "tag": "invoice"}]},
    )

    description: str = Field(default="", max_length=1000)
    data_type: Literal["text", "number", "date", "boolean", "amount"] = "text"
    tag: str | None = Field(default=None, min_length=1, max_length=100)


@router.get("/tags", summary="Tags", operation_id="listTags", responses=answered(TagList))
async def tags(gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The built-in tags, those of the tenant, and those that its files have."""
    return {"result": await gateway.store.read(lambda c: catalogue.tags(c, who.tenant_id))}


@router.put("/tags/{name}", summary="Create or edit a tag", operation_id="putTag", responses=answered(TagLine))
async def put_tag(name: Name, gateway: GatewayDep, who: Operator, body: Annotated[Tag, Body()]) -> dict[str, str]:
    """The name is the tag's id. Files get the tag by the rules of a step (`text.classify`, `config.rules`)."""

    def enter(connection: Connection) -> None:
        catalogue.save_tag(connection, who.tenant_id, name, body.description, clock.unix())
        add_audit(connection, who, clock.unix(), "tag.put", name)

    await gateway.store.transact(enter)
    return {"id": name, "name": name, "description": body.description}


@router.delete("/tags/{name}", status_code=204, summary="Delete a tag", operation_id="deleteTag")
async def delete_tag(name: Name, gateway: GatewayDep, who: Operator) -> None:
    """Files keep the tag. A built-in tag stays; only its description is deleted."""
    await _drop(gateway, who, "tag", name)


@router.put(
    "/metadata/{name}",
    summary="Create or edit a metadata definition",
    operation_id="putMetadataDefinition",
    responses=answered(MetadataDefinition),
)
async def put_definition(name: Name, gateway: GatewayDep, who: Operator, body: Annotated[Definition, Body()]) -> dict[str, Any]:
    """The name is the definition's id, and the key under which `fields.extract` reports the value."""

    def enter(connection: Connection) -> None:
        catalogue.save_definition(connection, who.tenant_id, name, body.model_dump(), clock.unix())
        add_audit(connection, who, clock.unix(), "metadata.put", name)

    await gateway.store.transact(enter)
    return {"id": name, "name": name, **body.model_dump()}


@router.delete(
    "/metadata/{name}", status_code=204, summary="Delete a metadata definition", operation_id="deleteMetadataDefinition"
)
async def delete_definition(name: Name, gateway: GatewayDep, who: Operator) -> None:
    """Extracted values are kept."""
    await _drop(gateway, who, "metadata_definition", name)


async def _drop(gateway: GatewayDep, who: Operator, table: Literal["tag", "metadata_definition"], name: str) -> None:
    def drop(connection: Connection) -> int:
        statement = text(f"DELETE FROM {table} WHERE tenant_id = :t AND name = :n")
        gone = connection.execute(statement, {"t": who.tenant_id, "n": name}).rowcount
        if gone:
            add_audit(connection, who, clock.unix(), f"{table}.delete", name)
        return gone

    if not await gateway.store.transact(drop):
        raise ApiError(404, f"There is no {table.replace('_', ' ')} {name}.")
