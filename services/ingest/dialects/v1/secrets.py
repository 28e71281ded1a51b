"""Secrets of a tenant: set, listed by name, deleted. No route returns a value."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field

from contracts import SecretChanged
from contracts.parameters import origin_of
from contracts.secrecy import SECRET_NAME
from contracts.topics import SECRETS_TOPIC
from services.ingest.adapters.store import tenant_secrets
from services.ingest.adapters.store.audit import add_audit
from services.ingest.http.answers.accounts import SecretNames, SecretSaved
from services.ingest.http.dependencies import GatewayDep, Operator
from services.ingest.http.errors import ApiError
from shared import clock
from shared.processing.unit_of_work import Unit
from shared.web.openapi import answered

router = APIRouter(prefix="/v1/secrets", tags=["Secrets"], max_body_size=64 << 10)
SecretName = Annotated[str, Path(pattern=SECRET_NAME)]
MOST = 1000
"""Secrets of one tenant."""


class NewSecret(BaseModel):
    """The value, and the addresses that it may be sent to. Without `origins` it goes to the address of the step that names it."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"value": "s3cret", "origins": ["https://crm.example.com"]}]},
    )

    value: str = Field(min_length=1, max_length=16_384)
    origins: list[Annotated[str, Field(max_length=2048)]] = Field(default_factory=list, max_length=20)


@router.put("/{name}", summary="Set a secret", operation_id="putSecret", responses=answered(SecretSaved))
async def put_secret(name: SecretName, gateway: GatewayDep, who: Operator, body: Annotated[NewSecret, Body()]) -> dict[str, Any]:
    """A step of a workflow names it as `secret:NAME`. The value is sealed before it is stored or sent, and is never shown."""
    if gateway.secret_box is None:
        raise ApiError(409, "There is no key to seal secrets with: set STAGELINE_SECRETS_KEY_FILE.", code="not_configured")
    origins = _origins(body.origins)
    sealed = gateway.secret_box.seal(who.tenant_id, name, origins, body.value)
    by = who.tenancy.user_name
    event = SecretChanged(
        event_id=clock.new_root(),
        tenant_id=who.tenant_id,
        name=name,
        sealed=sealed,
        origins=tuple(origins),
        by=by,
        occurred_at=clock.now(),
    )

    def enter(unit: Unit) -> bool:
        if tenant_secrets.count_others(unit.connection, who.tenant_id, name) >= MOST:
            return False
        tenant_secrets.save_secret(unit.connection, who.tenant_id, name, origins, by, unit.now)
        unit.emit(SECRETS_TOPIC.name, event, None)
        add_audit(unit.connection, who, unit.now, "secret.put", name)
        return True

    if not await gateway.processor.run_unit(enter):
        raise ApiError(409, f"There are {MOST} secrets already.", code="too_many")
    return {"name": name, "origins": origins}


def _origins(given: list[str]) -> list[str]:
    found = [origin_of(url) for url in given]
    if not all(found):
        raise ApiError(400, f"origins.{found.index('')}: an address such as https://crm.example.com is expected", "origins")
    return sorted(set(found))


@router.get("", summary="Names of secrets", operation_id="listSecrets", responses=answered(SecretNames))
async def list_secrets(gateway: GatewayDep, who: Operator) -> dict[str, Any]:
    """The tenant's secrets with who set them when, without their values."""
    return {"result": await gateway.store.read(lambda c: tenant_secrets.listed(c, who.tenant_id))}


@router.delete("/{name}", status_code=204, summary="Delete a secret", operation_id="deleteSecret")
async def delete_secret(name: SecretName, gateway: GatewayDep, who: Operator) -> None:
    """Steps that name it fail from now on."""
    event = SecretChanged(
        event_id=clock.new_root(), tenant_id=who.tenant_id, name=name, by=who.tenancy.user_name, occurred_at=clock.now()
    )

    def drop(unit: Unit) -> bool:
        if not tenant_secrets.drop_secret(unit.connection, who.tenant_id, name):
            return False
        unit.emit(SECRETS_TOPIC.name, event, None)
        add_audit(unit.connection, who, unit.now, "secret.delete", name)
        return True

    if not await gateway.processor.run_unit(drop):
        raise ApiError(404, f"There is no secret {name}.")
