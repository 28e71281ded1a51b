"""What every contract has in common: strict when written, lenient when read, one identity, one key."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from contracts.loose import READ


class Contract(BaseModel):
    """A frozen record. Built by our code it is strict and closed; read from the wire it ignores unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @classmethod
    def read(cls, raw: bytes | str) -> Self:
        """Parse JSON leniently: unknown fields ignored, text booleans, counts and times accepted.

        Raises `pydantic.ValidationError` naming each field and reason.
        """
        return cls.model_validate_json(raw, strict=False, extra="ignore", context=READ)

    @classmethod
    def read_object(cls, value: Any) -> Self:
        """As `read`, from an already decoded JSON value."""
        return cls.model_validate(value, strict=False, extra="ignore", context=READ)

    def to_json(self) -> bytes:
        """The bytes on the wire: compact JSON, absent optional fields left out."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


class Message(Contract):
    """A contract that travels in a topic of its own right."""

    TYPE: ClassVar[str]
    """CloudEvents `type`, ending in the major version, e.g. `stageline.session.opened.v1`."""
    VERSION: ClassVar[str] = "1.0"
    """Version of the schema, raised with every change; all versions of a type are FULL_TRANSITIVE compatible."""

    @classmethod
    def data_schema(cls) -> str:
        """CloudEvents `dataschema`: the URI of the schema, which is also its `$id`."""
        return f"urn:stageline:schema:{cls.TYPE}:{cls.VERSION}"

    @property
    def message_id(self) -> str:
        """Identity for de-duplication, CloudEvents `id`; stable over re-sends."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Record key: the job id, or the session id for sessions. Order is kept per key."""
        raise NotImplementedError

    @property
    def time(self) -> datetime:
        """When it happened, CloudEvents `time`."""
        raise NotImplementedError

    @property
    def tenant(self) -> str:
        """The tenant (Alfred: company id) that owns it."""
        raise NotImplementedError
