"""What every contract has in common: strict when written, lenient when read, one identity, one key."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from contracts.loose import READ

_put = object.__setattr__


class Contract(BaseModel):
    """A frozen record. Built by our code it is strict and closed; read from the wire it ignores unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @classmethod
    def trusted(cls, **fields: Any) -> Self:
        """A record of checked values, without checking them again; absent fields get their defaults.

        For hot paths that build records from other records; a tenth of what validation costs.
        """
        return cls.assembled(fields)

    @classmethod
    def assembled(cls, fields: dict[str, Any]) -> Self:
        """As `trusted`, from a dictionary, which is not kept."""
        made = cls.__new__(cls)
        _put(made, "__dict__", {**_defaults(cls), **fields})
        _put(made, "__pydantic_fields_set__", set(fields))
        _put(made, "__pydantic_extra__", None)
        _put(made, "__pydantic_private__", None)
        return made

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


@lru_cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    # Defaults of contracts are immutable, or made anew by their factory where they are not: those must be given.
    return {
        name: field.default
        for name, field in model.model_fields.items()
        if not field.is_required() and field.default_factory is None
    }


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
