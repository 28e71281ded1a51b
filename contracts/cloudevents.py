"""The wire format: CloudEvents 1.0.2 over Kafka. Writes binary mode; reads binary and structured mode.

Follows the CloudEvents Kafka protocol binding 1.0.2; see reference/reliability-contracts-telemetry.md §B2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from contracts.field_names import field_of, reason_of
from contracts.message import Message
from contracts.names import alfred_model
from contracts.sealing import CONTENT_TYPE
from contracts.topics import MODELS
from contracts.upcasters import UPCASTERS, upcast

Headers = tuple[tuple[str, bytes], ...]
JSON: Final = b"application/json"
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class UndecodableRecord(ValueError):
    """The record can never be read. `code` is a stable word; the text names the field and the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class SealedRecord(UndecodableRecord):
    """The record is sealed. Its job is erased, or the reader has no seal keys. Nothing is wrong with the record."""

    def __init__(self) -> None:
        super().__init__("sealed", "the record is sealed, and its job is erased or the reader has no access to seal.keys")


class Record(NamedTuple):
    """A Kafka record: key, value and headers."""

    key: bytes
    value: bytes
    headers: Headers


def to_record(message: Message, source: str, extra: Headers = ()) -> Record:
    """The record of a message in binary mode: attributes in `ce_*` headers, the message's JSON as the value.

    `source` is the producing service, e.g. `/stageline/session`. `extra` headers (trace context) are appended.
    """
    key = message.key.encode()
    content, version, ce_source, ce_type, schema = _same(type(message), source)
    headers: Headers = (
        content,
        version,
        ("ce_id", message.message_id.encode()),
        ce_source,
        ce_type,
        ("ce_time", _time(message.time)),
        ("ce_subject", key),
        ("ce_tenant", message.tenant.encode()),
        schema,
    )
    return Record(key, message.to_json(), headers + extra)


@lru_cache
def _same(model: type[Message], source: str) -> Headers:
    """The headers that are equal in all records of a type from one source."""
    return (
        ("content-type", JSON),
        ("ce_specversion", b"1.0"),
        ("ce_source", source.encode()),
        ("ce_type", model.TYPE.encode()),
        ("ce_dataschema", model.data_schema().encode()),
    )


@lru_cache(maxsize=10_000)
def _time(at: datetime) -> bytes:
    return at.isoformat().replace("+00:00", "Z").encode()


def from_record(value: bytes | None, headers: Sequence[tuple[str, bytes | None]], allowed: frozenset[str]) -> Message:
    """Decode a record into the newest model of its type. `allowed` holds the CloudEvents types of the record's topic.

    Reads binary mode, structured mode and Alfred's envelope without CloudEvents attributes; all of them leniently.
    Raises `UndecodableRecord`.
    """
    if not value:
        raise UndecodableRecord("empty_value", "the record has no value")
    content, told = _told(headers)
    if content == CONTENT_TYPE:
        raise SealedRecord
    if holds_nul(value):
        raise UndecodableRecord("invalid_data", "(root): a text holds U+0000, which not every database can keep")
    if content != JSON and content.lower().startswith(b"application/cloudevents"):
        return _structured(value, allowed)
    if told is not None:
        type_ = told.decode("utf-8", "backslashreplace")
        if type_ in UPCASTERS:
            return _newest(type_, _object(value), allowed)
        return _parse(_model(type_, allowed), value)
    return _bare(value, allowed)


def _told(headers: Sequence[tuple[str, bytes | None]]) -> tuple[bytes, bytes | None]:
    """The content type and the CloudEvents type. Header names match in any case; our own spelling is tried first."""
    content = told = None
    for name, raw in headers:
        if name == "ce_type":
            told = raw
        elif name == "content-type":
            content = raw
    if content is None or told is None:
        attributes = {name.lower(): raw for name, raw in headers if raw is not None}
        return attributes.get("content-type", b""), attributes.get("ce_type")
    return content, told


def holds_nul(value: bytes) -> bool:
    """True when a text in this JSON holds U+0000. Only the escaped form is looked for: raw U+0000 is not valid JSON."""
    return b"\\u0000" in value and _NUL.search(value) is not None


def _model(type_: str, allowed: frozenset[str]) -> type[Message]:
    if type_ not in allowed:
        raise UndecodableRecord("unexpected_type", f"type {type_[:200]!r} does not belong on this topic")
    return MODELS[type_]


def _parse(model: type[Message], value: bytes) -> Message:
    try:
        return model.read(value)
    except ValidationError as error:
        raise UndecodableRecord("invalid_data", describe(error, _sent(value))) from None
    except (ValueError, RecursionError) as error:
        raise UndecodableRecord("invalid_data", str(error)) from None


def _sent(value: bytes) -> Any:
    """What a record holds, to name its faulty fields; None where it is no JSON."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _structured(value: bytes, allowed: frozenset[str]) -> Message:
    envelope = _object(value)
    if envelope.get("specversion") != "1.0":
        raise UndecodableRecord("invalid_envelope", f"specversion: {envelope.get('specversion')!r} is not '1.0'")
    return _newest(str(envelope.get("type")), envelope.get("data"), allowed)


def _newest(type_: str, data: Any, allowed: frozenset[str]) -> Message:
    try:
        type_, data = upcast(type_, data)
        return _model(type_, allowed).read_object(data)
    except ValidationError as error:
        raise UndecodableRecord("invalid_data", describe(error, data)) from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UndecodableRecord):
            raise
        raise UndecodableRecord("invalid_data", f"as {type_}: {type(error).__name__}: {error}") from None


def _bare(value: bytes, allowed: frozenset[str]) -> Message:
    # A vendor's event without CloudEvents attributes names its type in `event.event_name`.
    body = _object(value)
    event = body.get("event")
    model = alfred_model(str(event.get("event_name"))) if isinstance(event, dict) else None
    if model is None or model.TYPE not in allowed:
        raise UndecodableRecord("unknown_type", "no ce_type header, and event.event_name names no event of this topic")
    try:
        return model.read_object(body)
    except ValidationError as error:
        raise UndecodableRecord("invalid_data", describe(error, body)) from None


def _object(value: bytes) -> dict[str, Any]:
    try:
        body = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UndecodableRecord("invalid_json", str(error)) from None
    if not isinstance(body, dict):
        raise UndecodableRecord("invalid_json", f"a JSON object is expected, not {type(body).__name__}")
    return body


def describe(error: ValidationError, sent: Any) -> str:
    """`field.path: reason` of each invalid field of the input `sent`, at most five."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    text = "; ".join(f"{field_of(f['loc'], f['type'], sent) or '(root)'}: {reason_of(f)}" for f in faults[:5])
    return text + (f" (and {len(faults) - 5} more)" if len(faults) > 5 else "")
