"""The spellings of the source documents, read leniently: why a vendor's own sample parses here.

Alfred's pages quote booleans, counts and times as text and give `metadata` as text or as an object
(`reference/vendor-apis.md` §1.1, §4.3). Writers never use these: strict mode refuses what is not the declared type,
because the conversions below run only when the reader asked for them (`READ` as validation context).
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
    """True when the value comes from the wire through a reader, not from our own writer."""
    context = info.context
    return context is READ or bool(context and context.get("reader"))


def _metadata(value: Any, info: ValidationInfo) -> Any:
    # Vendors send a JSON text, plain prose or an object; readers always see an object or prose, never JSON-in-a-string.
    if is_reader(info) and isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass
    return check_metadata(value)


MAX_DEPTH = 32
"""Deepest nesting of metadata: far beyond any use, far below what breaks a parser somewhere downstream."""


MAX_METADATA_BYTES = 65_536
"""Largest metadata as JSON: it travels in every task and several events of a job, which must fit into a Kafka record."""


def check_metadata(value: Any) -> Any:
    """The value, when it is writable JSON (`check_json`) of at most `MAX_METADATA_BYTES`. Raises `ValueError`."""
    check_json(value)
    size = len(value.encode()) if isinstance(value, str) else len(json.dumps(value)) if value else 0
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"{size} bytes of JSON; the limit is {MAX_METADATA_BYTES}")
    return value


def check_json(value: Any, depth: int = 0) -> Any:
    """The value, when every program can write it as JSON: nested at most 32 deep, finite numbers, valid Unicode.

    Raises `ValueError` saying which of these it breaks.
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
    # The source documents also give times with no zone; they are UTC there.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _when(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> datetime:
    if value.__class__ is str and is_reader(info) and (known := _as_written(value)) is not None:
        return known
    return _utc(handler(_time(value, info)))


@lru_cache(maxsize=10_000)
def _as_written(text: str) -> datetime | None:
    # Of the form that `_iso` writes, and most of them again and again: a job's creation is in all of its events.
    try:
        return datetime.fromisoformat(text) if _WRITTEN.fullmatch(text) else None
    except ValueError:
        return None


@lru_cache(maxsize=10_000)
def _iso(value: datetime) -> str:
    # The same few times stand in all records of a batch, and a job's creation in all of its events.
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: Any, info: ValidationInfo) -> Any:
    # A number or boolean where text is declared (ids and values in the vendor's samples) is kept as its text.
    # Asked of every text of every record; nearly all of them are texts.
    if value.__class__ is not str and isinstance(value, (int, float)) and is_reader(info):
        return json.dumps(value)
    return value


Timestamp = Annotated[
    datetime,
    WrapValidator(_when),
    PlainSerializer(_iso, return_type=str, when_used="json"),
]
"""A UTC time; ISO 8601 with milliseconds on the wire; readers also take Unix seconds as number or text."""

Metadata = Annotated[dict[str, Any] | list[Any] | str | None, BeforeValidator(_metadata)]
"""Free metadata of the producer: an object, a list (one entry per file), prose, or nothing."""

Text = Annotated[str, BeforeValidator(_text)]
"""Text; readers also take a number or boolean."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=200), BeforeValidator(_text)]
"""An identifier. Ours are UUID text; the vendor's samples are not always valid UUIDs, so none is demanded."""
