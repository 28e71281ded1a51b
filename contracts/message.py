"""Base classes of all contracts: strict when written, lenient when read. Every message has an identity and a key."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from contracts.loose import READ

_put = object.__setattr__


class Contract(BaseModel):
    """An immutable set of fields. Our code builds it strictly (no coercion, no other fields); `read` ignores unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @classmethod
    def trusted(cls, **fields: Any) -> Self:
        """Build an object from validated values, without validation. Absent fields get their defaults.

        For code that builds many messages from parts of other messages, where validation would dominate the cost.
        """
        return cls.assembled(fields)

    @classmethod
    def assembled(cls, fields: dict[str, Any]) -> Self:
        """As `trusted`, from a dictionary. The dictionary is copied."""
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
        """As `read`, from a decoded JSON value."""
        return cls.model_validate(value, strict=False, extra="ignore", context=READ)

    def to_json(self) -> bytes:
        """The bytes on the wire: compact JSON without the fields that are None."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


@lru_cache
def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    # Only immutable defaults can be shared. A field with a default factory must be given to `trusted`.
    return {
        name: field.default
        for name, field in model.model_fields.items()
        if not field.is_required() and field.default_factory is None
    }


class Message(Contract):
    """A contract that is a record of its own in a topic."""

    TYPE: ClassVar[str]
    """CloudEvents `type`, ending in the major version, e.g. `stageline.session.opened.v1`."""
    VERSION: ClassVar[str] = "1.0"
    """Version of the schema, raised with every change. All versions of a type are FULL_TRANSITIVE compatible."""

    @classmethod
    def data_schema(cls) -> str:
        """CloudEvents `dataschema`: the URI of the schema, which is also its `$id`."""
        return f"urn:stageline:schema:{cls.TYPE}:{cls.VERSION}"

    @property
    def message_id(self) -> str:
        """Identity for de-duplication, CloudEvents `id`. A message that is sent again keeps it."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Key of the record, e.g. the job id. Kafka keeps the order of records with equal keys."""
        raise NotImplementedError

    @property
    def time(self) -> datetime:
        """Time of the event or command, CloudEvents `time`."""
        raise NotImplementedError

    @property
    def tenant(self) -> str:
        """Id of the tenant (Alfred's company) that owns it."""
        raise NotImplementedError
