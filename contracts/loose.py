"""Field types that a reader parses leniently, so that the vendor's own samples are valid here.

Alfred's pages give booleans, counts and times as text, and `metadata` as text or as an object (`reference/vendor-apis.md`
§1.1, §4.3). The conversions below run for readers alone (validation context `READ`). A writer's value must have the declared type.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_WRITTEN: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
READ: Final = {"reader": True}
"""Validation context of a lenient reader (see `contracts.message.Contract.read`)."""


def is_reader(info: ValidationInfo) -> bool:
    """True when a reader parses the value from the wire; False when our own code builds a message."""
    context = info.context
    return context is READ or bool(context and context.get("reader"))


def _metadata(value: Any, info: ValidationInfo) -> Any:
    # Vendors send JSON in a string, prose or an object. JSON in a string is parsed, so that readers see an object or prose.
    if is_reader(info) and isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass
    return check_metadata(value)


MAX_DEPTH = 32
"""Deepest nesting of metadata. Deeper values can exceed the limit of a consumer's JSON parser."""

MAX_METADATA_BYTES = 65_536
"""Largest metadata, in bytes of JSON. Every task and several events of a job carry it, and each must fit into a Kafka record."""


def check_metadata(value: Any) -> Any:
    """Return the value unchanged. Raises `ValueError` if `check_json` does, or if its JSON exceeds `MAX_METADATA_BYTES`."""
    check_json(value)
    size = len(value.encode()) if isinstance(value, str) else len(json.dumps(value)) if value else 0
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"{size} bytes of JSON; the limit is {MAX_METADATA_BYTES}")
    return value


def check_json(value: Any, depth: int = 0) -> Any:
    """Return the value unchanged if it is portable JSON: at most `MAX_DEPTH` levels, finite numbers, valid Unicode.

    Raises `ValueError` with the rule that it breaks.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("text that is not valid Unicode (a lone surrogate)") from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    elif isinstance(value, dict):
        for key, item in value.items():
            check_json(key, depth)
            check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, depth + 1)
    return value


def _time(value: Any, info: ValidationInfo) -> Any:
    if is_reader(info) and isinstance(value, str):
        text = value.strip()
        if text[4:5] == "-":
            return text
        try:
            return datetime.fromtimestamp(float(text), UTC)
        except (ValueError, OverflowError, OSError):
            return text
    return value


def _utc(value: datetime) -> datetime:
    # The source documents also give times without a zone. Those are UTC.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _when(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> datetime:
    if value.__class__ is str and is_reader(info) and (known := _as_written(value)) is not None:
        return known
    return _utc(handler(_time(value, info)))


@lru_cache(maxsize=10_000)
def _as_written(text: str) -> datetime | None:
    # Fast path for the form that `_iso` writes. The cache helps: all events of a job hold its creation time.
    try:
        return datetime.fromisoformat(text) if _WRITTEN.fullmatch(text) else None
    except ValueError:
        return None


@lru_cache(maxsize=10_000)
def _iso(value: datetime) -> str:
    # The records of a batch share a few times, and all events of a job hold its creation time.
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: Any, info: ValidationInfo) -> Any:
    # The vendor's samples have numbers and booleans where text is declared. The reader keeps them as their JSON text.
    # Runs for every text of every record, so it tests the common case first.
    if value.__class__ is not str and isinstance(value, (int, float)) and is_reader(info):
        return json.dumps(value)
    return value


Timestamp = Annotated[
    datetime,
    WrapValidator(_when),
    PlainSerializer(_iso, return_type=str, when_used="json"),
]
"""A UTC time, on the wire ISO 8601 with milliseconds. Readers also accept Unix seconds as a number or text."""

Metadata = Annotated[dict[str, Any] | list[Any] | str | None, BeforeValidator(_metadata)]
"""Metadata of the producer: an object, a list (one entry per file), prose, or None."""

Text = Annotated[str, BeforeValidator(_text)]
"""Text. Readers also accept a number or boolean."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=200), BeforeValidator(_text)]
"""An identifier. Ours are UUIDs. Any text of 1 to 200 characters is accepted, because some of the vendor's are not valid UUIDs."""
