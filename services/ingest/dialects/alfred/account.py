"""Alfred's dialect: tags, metadata, values, reports, the account and the service itself (reference/vendor-apis.md §1.6)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import text

from contracts import RegisterWebhook, alfred_view, derived
from contracts.topics import WEBHOOK_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import catalogue
from services.ingest.dialects.alfred import bodies, views
from services.ingest.http.commands import send_to
from services.ingest.http.dependencies import GatewayDep, Reader, Writer
from services.ingest.http.errors import ApiError
from services.ingest.http.records import file_record
from shared import clock
from shared.net.address_guard import AddressRefused, check_url
from shared.web.api_keys import Principal
from shared.web.client_address import client_address

router = APIRouter(prefix="/api", tags=["Alfred"], max_body_size=1 << 20)
API_VERSION = "1.66.3.0"
"""Version of the vendor's documentation that this dialect follows."""


class Webhook(BaseModel):
    """The address that gets every event."""

    url: str = Field(min_length=1, max_length=2048, examples=["https://example.com/hooks/alfred"])
    flat: bodies.Loose = Field(
        default=False, description="Extension: the members of `event` also stand beside those of the envelope"
    )


@router.get("/tag/all", summary="Tags")
async def all_tags(gateway: GatewayDep, who: Reader) -> list[dict[str, Any]]:
    """All tags of the company. Edit them by `PUT /v1/tags/{name}`."""
    return await _tags(gateway, who)


@router.get("/tag/detail/{tag_id}", summary="A tag", responses=bodies.NOT_FOUND)
async def tag_detail(tag_id: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """The tag's name, its description and the metadata that is extracted from its files. `tag_id` is its id or its name, as wherever
    this dialect takes one."""
    tag = await _tag(gateway, tag_id, who)
    found = await gateway.store.read(lambda c: catalogue.definitions(c, who.tenant_id))
    defined = [row for row in found if row["tag_name"] in (None, tag["name"])]
    return {**tag, "metadata": [views.definition(who.tenant_id, row) for row in defined]}


async def _tags(gateway: Gateway, who: Principal) -> list[dict[str, Any]]:
    found = await gateway.store.read(lambda c: catalogue.tags(c, who.tenant_id))
    return [views.tag(who.tenant_id, row) for row in found]


async def _tag(gateway: Gateway, tag_id: str, who: Principal) -> dict[str, Any]:
    for tag in await _tags(gateway, who):
        if alfred_view.names_it(tag_id, tag["id"], tag["name"]):
            return tag
    raise ApiError(404, f"Tag with ID {tag_id} does not exist.")


async def _metadata(gateway: Gateway, who: Principal) -> list[dict[str, Any]]:
    found = await gateway.store.read(lambda c: catalogue.known_metadata(c, who.tenant_id))
    return [views.definition(who.tenant_id, row) for row in found]


@router.get("/metadata/all", summary="Metadata definitions")
async def all_metadata(gateway: GatewayDep, who: Reader) -> list[dict[str, Any]]:
    """All metadata definitions of the company, and one for each other value that its files have. Edit them by
    `PUT /v1/metadata/{name}`."""
    return await _metadata(gateway, who)


@router.get("/metadata/detail/{metadata_id}", summary="A metadata definition", responses=bodies.NOT_FOUND)
async def metadata_detail(metadata_id: str, gateway: GatewayDep, who: Reader) -> dict[str, Any]:
    """One metadata definition. `metadata_id` is its id, as `values/…` show it, or its name."""
    for definition in await _metadata(gateway, who):
        if alfred_view.names_it(metadata_id, definition["id"], definition["name"]):
            return definition
    raise ApiError(404, f"Metadata with ID {metadata_id} does not exist.")


@router.get("/values/file/{file_id}", summary="Extracted values of a file", responses=bodies.NOT_FOUND)
async def file_values(file_id: str, gateway: GatewayDep, who: Reader) -> list[dict[str, Any]]:
    """One row per metadata definition; values are text."""
    return views.values(await file_record(gateway, file_id, who))


@router.get("/values/tag/{tag_id}", summary="Extracted values of a tag's files", responses=bodies.NOT_FOUND)
async def tag_values(tag_id: str, gateway: GatewayDep, who: Reader) -> list[dict[str, Any]]:
    """One row per file and metadata definition, newest jobs first, for at most 10,000 files."""
    name = (await _tag(gateway, tag_id, who))["name"]

    def look(c: Any) -> list[dict[str, Any]]:
        return [row for record in catalogue.files_tagged(c, who.tenant_id, name) for row in views.values(record)]

    return await gateway.store.read(look)


@router.get("/report/tag/{tag_id}", summary="A tag's files as a table", responses=bodies.NOT_FOUND)
async def tag_report(tag_id: str, gateway: GatewayDep, who: Reader) -> list[dict[str, str]]:
    """One object per file: `file_id`, and a key per metadata definition with its value as text. At most 10,000 files, newest jobs
    first."""
    name = (await _tag(gateway, tag_id, who))["name"]

    def look(c: Any) -> list[dict[str, str]]:
        rows = ((r["id"], catalogue.values_of(r)) for r in catalogue.files_tagged(c, who.tenant_id, name))
        return [{"file_id": i, **{v["metadata_name"]: v["value"] for v in values}} for i, values in rows]

    return await gateway.store.read(look)


@router.get("/account/companies", summary="Companies of the caller")
async def companies(request: Request, who: Reader) -> list[dict[str, str]]:
    """The company that the credential belongs to."""
    _identified(request)
    return [{"id": alfred_view.company_id(who.tenant_id), "name": who.tenancy.tenant_name}]


@router.get("/account/tags/{company_id}", summary="Tags of a company", responses=bodies.NOT_FOUND)
async def company_tags(company_id: str, request: Request, gateway: GatewayDep, who: Reader) -> list[dict[str, str]]:
    """The same as `tag/all`. `company_id` is the company's id, or that of the tenant."""
    _identified(request)
    if not alfred_view.names_it(company_id, alfred_view.company_id(who.tenant_id), who.tenant_id):
        raise ApiError(404, f"Company with ID {company_id} does not exist.")
    return await _tags(gateway, who)


def _identified(request: Request) -> None:
    """Raises 400 without a User-Agent header: the vendor requires it for these calls."""
    if not request.headers.get("user-agent", "").strip():
        raise ApiError(400, "User-Agent: the header is required", "User-Agent")


@router.post(
    "/account/webhook", summary="Set the webhook of the company",
    responses={**bodies.example({"id": bodies.UUID_1}), 422: {"description": "The address did not answer the challenge"}},
)  # fmt: skip
async def register_webhook(
    request: Request, gateway: GatewayDep, who: Writer, body: Annotated[Webhook, Body()]
) -> dict[str, str]:
    """Every event is sent to this address.

    The address gets `{token, challenge, type: "url_verification"}` and must answer with the challenge. A company has one URL; a
    new one replaces the old.

    With `flat`, the members of an event's inner object also stand beside those of the envelope, as the types of the vendor's Node.js
    client have them. The last call decides.
    """
    try:
        check_url(body.url, gateway.settings.trusted)
    except AddressRefused as error:
        raise ApiError(400, f"url: {error}", "url") from None
    command = RegisterWebhook(
        command_id=clock.new_root(), endpoint_id=derived(who.tenant_id, "account-webhook"), owner=who.tenancy, url=body.url,
        issued_at=clock.now(), flat=body.flat or None,
    )  # fmt: skip
    answer = await send_to(request, gateway, WEBHOOK_COMMANDS_TOPIC.name, command, "The address")
    if not answer["ok"]:
        raise ApiError(422, f"url: {answer['message']}", "url", code=answer["reason"])
    return {"id": command.endpoint_id}


@router.get("/company/inbox", summary="An inbox address of the company", responses=bodies.NOT_FOUND)
async def inbox(gateway: GatewayDep, who: Reader, address: Annotated[str, Query(alias="inbox", min_length=3, max_length=254)]) -> dict[str, Any]:  # fmt: skip
    """Whether an address belongs to the company. Stageline receives no mail: forward it to `file/uploadfile`."""
    known = text("SELECT inbox FROM tenant WHERE tenant_id = :t")
    own = await gateway.store.read(lambda c: c.execute(known, {"t": who.tenant_id}).scalar())
    if not own or own.casefold() != address.casefold():
        raise ApiError(404, f"Inbox {address} does not exist.")
    return {"inbox": own, "company_id": alfred_view.company_id(who.tenant_id), "company_name": who.tenancy.tenant_name}


@router.get("/tagshelf/status", summary="Status of the service")
async def status(gateway: GatewayDep) -> dict[str, str]:
    """`db_status` is `ok`; the answer is 503 when the database is unavailable."""
    await gateway.store.read(lambda c: c.execute(text("SELECT 1")).scalar())
    return {"api_version": API_VERSION, "db_status": "ok"}


@router.get("/tagshelf/ping", summary="Ping the service")
async def ping() -> dict[str, str]:
    """Answers with the time."""
    return {"pong": clock.now().isoformat(timespec="milliseconds")}


@router.get("/tagshelf/who-am-i", summary="Identity of the caller")
async def who_am_i(request: Request, who: Reader) -> dict[str, Any]:
    """`authentication_type` is `api_key`, `bearer` or `amx`."""
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    return {
        "authentication_type": "api_key" if "x-tagshelfapi-key" in request.headers else scheme or "api_key",
        "request_origin_ip_address": client_address(request.scope), "user_name": who.tenancy.user_name, "name": None, "last_name": None,
        "user_id": views.user_id(who.tenant_id, who.tenancy.user_name), "status": "active", "roles": [who.role],
        "company_id": alfred_view.company_id(who.tenant_id), "company_name": who.tenancy.tenant_name, "app_id": None, "app_name": None,
    }  # fmt: skip
