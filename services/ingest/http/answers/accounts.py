"""Answers of our own API about tenants, users, keys, applications, secrets, shared links, tags and uploads."""

from __future__ import annotations

from pydantic import BaseModel, Field

from services.ingest.http.answers.records import FILE, TIME


class Quotas(BaseModel):
    """Limits of a tenant; null means no limit, or the service's default."""

    requests_per_minute: int | None = None
    jobs_open: int | None = None
    files_per_day: int | None = None
    bytes_per_day: int | None = None
    workflows: int | None = None
    actions: int | None = None


class Tenant(BaseModel):
    """A tenant and its limits."""

    tenant_id: str = Field(examples=["acme"])
    name: str = Field(examples=["Acme"])
    quotas: Quotas
    inbox: str | None


class Tenants(BaseModel):
    """All tenants."""

    result: list[Tenant]


class Usage(BaseModel):
    """Files and bytes of today (UTC), and open jobs up to 10,000."""

    files: int
    bytes: int
    jobs_open: int


class OwnTenant(BaseModel):
    """The caller's tenant."""

    tenant_id: str = Field(examples=["acme"])
    name: str
    quotas: Quotas
    used: Usage


class TenantErasure(BaseModel):
    """How far the erasure of a tenant is."""

    tenant_id: str
    state: str = Field(examples=["running"], description="`running` or `done`.")
    started_at: str | None = Field(examples=[TIME])
    ended_at: str | None
    left: dict[str, int] = Field(description="What is still there, each counted up to 10,000.")


class TenantAction(BaseModel):
    """An action that the tenant's workflows may name."""

    action: str = Field(examples=["acme.stamp"])
    allowed: bool


class TenantActions(BaseModel):
    """Actions beside the built-in ones."""

    result: list[TenantAction]


class AllowedAction(TenantAction):
    """The action that was allowed."""

    tenant_id: str


class User(BaseModel):
    """A user that signs in with a password."""

    user_name: str = Field(examples=["ann"])
    role: str = Field(examples=["producer"])
    rights: list[str]
    disabled: bool


class Users(BaseModel):
    """The tenant's users."""

    result: list[User]


class IssuedKey(BaseModel):
    """A new key. Only this answer contains it."""

    key: str = Field(description="Send it as `X-API-Key`.", examples=["sl_…"])
    key_id: str
    tenant_id: str
    role: str
    rights: list[str]
    expires_at: str | None


class Key(BaseModel):
    """A key by its first characters."""

    key_id: str
    prefix: str
    user_name: str
    role: str
    rights: list[str]
    expires_at: float | None = Field(description="Unix seconds.")


class KeyList(BaseModel):
    """The tenant's keys that are not revoked."""

    result: list[Key]


class IssuedApplication(BaseModel):
    """Credentials of a signing application. Only this answer contains `api_key`."""

    secret_key: str
    api_key: str
    role: str


class Application(BaseModel):
    """A signing application."""

    secret_key: str
    user_name: str
    role: str


class Applications(BaseModel):
    """The tenant's applications that are not revoked."""

    result: list[Application]


class SecretSaved(BaseModel):
    """The secret that was set, without its value."""

    name: str = Field(examples=["crm"])
    origins: list[str]


class SecretName(SecretSaved):
    """A secret without its value, and who set it when (Unix seconds)."""

    changed_by: str | None
    changed_at: float | None


class SecretNames(BaseModel):
    """The tenant's secrets."""

    result: list[SecretName]


class SharedLink(BaseModel):
    """A link to a file that anybody can use."""

    id: str
    file_id: str = Field(examples=[FILE])
    created_by: str | None
    created_at: str | None
    expires_at: str | None


class SharedLinks(BaseModel):
    """The tenant's links that still hold."""

    result: list[SharedLink]


class TagLine(BaseModel):
    """A tag. Its name is its id."""

    id: str
    name: str = Field(examples=["invoice"])
    description: str


class TagList(BaseModel):
    """The tenant's tags."""

    result: list[TagLine]


class MetadataDefinition(BaseModel):
    """A metadata definition. Its name is its id."""

    id: str
    name: str = Field(examples=["total"])
    description: str
    data_type: str
    tag: str | None


class PresignedUpload(BaseModel):
    """Where to PUT the bytes, within `expires_in` seconds."""

    upload_id: str
    method: str
    url: str
    expires_in: int


class CompletedUpload(BaseModel):
    """The file that the upload became."""

    file_id: str = Field(examples=[FILE])


class ConversionProfile(BaseModel):
    """A profile of the Conversion Service."""

    workflow: str
    name: str
    is_default: bool


class ConversionConnection(BaseModel):
    """A connection of the Conversion Service."""

    id: str
    workflow: str
    profile: str
    output_url: str | None


class About(BaseModel):
    """What answers here, and where the rest is."""

    name: str = Field(examples=["Stageline"])
    version: str
    docs: str = Field(description="The page that documents this API.", examples=["/docs"])
    openapi: dict[str, str] = Field(description="Dialect → its OpenAPI document.")
    notifier_url: str | None = Field(
        description="Address of the notifier, which serves webhooks and event streams. null: not known."
    )
    key_header: str = Field(description="The header that carries a key.", examples=["X-API-Key"])
