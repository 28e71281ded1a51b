"""A dead letter as the gateway shows it, filters over letters, and the copy that is sent again. Pure.

The id of a letter is its place, `topic:partition:offset`. A letter has a `state`: `open`, or what was done with it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts import UndecodableRecord, from_record
from contracts.secrecy import HIDDEN, hide_secrets
from contracts.topics import TASK_PREFIX, TOPICS, task_topic, tenant_commands_topic, tenant_events_topic, tenant_of
from services.ingest.core.job_view import text
from services.ingest.core.json_patch import merged

Record = dict[str, Any]
Headers = tuple[tuple[str, bytes], ...]
SUFFIX = ".dlq"
OWN = "dlq-"
"""Prefix of the headers that the dead-lettering group added."""
OPEN = "open"
STATES = (OPEN, "redriven", "edited", "discarded")


@dataclass(frozen=True, slots=True)
class Raw:
    """A record of a dead-letter topic, opened if it was `sealed` and its job is not erased. `at` is its time in Unix seconds."""

    topic: str
    partition: int
    offset: int
    at: float
    key: bytes | None
    value: bytes
    headers: Headers
    sealed: bool = False

    @property
    def letter_id(self) -> str:
        """`topic:partition:offset`."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    def told(self, name: str) -> str | None:
        """The text of a header; None without it."""
        return next((v.decode("utf-8", "replace") for n, v in self.headers if n == name), None)

    @property
    def source(self) -> str | None:
        """The topic that the record came from."""
        return self.told("dlq-original-topic")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter. None fits everything; `topic` is that of the letter or of its source."""

    topic: str | None = None
    group: str | None = None
    code: str | None = None
    job_id: str | None = None
    state: str | None = OPEN
    older_than_s: float | None = None
    newer_than_s: float | None = None

    def fits(self, letter: Record) -> bool:
        """True when the letter fits."""
        named = all(
            wish is None or letter[name] == wish
            for name, wish in (("group", self.group), ("code", self.code), ("job_id", self.job_id), ("state", self.state))
        )
        aged = (self.older_than_s is None or letter["age_s"] >= self.older_than_s) and (
            self.newer_than_s is None or letter["age_s"] <= self.newer_than_s
        )
        return named and aged and self.topic in (None, letter["topic"], letter["source"])

    def may_be_in(self, topic: str) -> bool:
        """False for a dead-letter topic that has no letter that fits."""
        return (
            self.topic is None or topic == self.topic or topic.startswith(f"{self.topic}.") or tenant_of(self.topic) is not None
        )


def place_of(letter_id: str) -> tuple[str, int, int] | None:
    """Topic, partition and offset of an id; None for what is no id of a letter."""
    topic, _, rest = letter_id.partition(":")
    partition, _, offset = rest.partition(":")
    if not topic.endswith(SUFFIX) or not (partition.isdecimal() and offset.isdecimal()) or len(rest) > 30:
        return None
    return topic, int(partition), int(offset)


def letter_of(raw: Raw, act: Record | None, now: float) -> Record:
    """One line about a letter. `act` is what was done with it: `{verb, at, by, reason}`. `now` is in Unix seconds."""
    body = _json(raw.value)
    at = _number(raw.told("dlq-failed-at")) or raw.at
    return {
        "id": raw.letter_id, "topic": raw.topic, "source": raw.source, "source_partition": raw.told("dlq-original-partition"),
        "source_offset": raw.told("dlq-original-offset"), "group": raw.told("dlq-group"), "service": raw.told("dlq-service"),
        "code": raw.told("dlq-code"), "reason": raw.told("dlq-reason"), "type": raw.told("ce_type"), "job_id": _job_id(raw, body),
        "tenant_id": raw.told("ce_tenant"), "bytes": len(raw.value), "sealed": raw.sealed,
        "at": text(datetime.fromtimestamp(at, UTC)), "age_s": round(max(0.0, now - at), 1),
        "state": act["verb"] if act else OPEN, "act": act,
    }  # fmt: skip


def whole_letter(raw: Raw, act: Record | None, now: float) -> Record:
    """A letter with its key, headers and body. Values whose names tell of secrets are hidden."""
    body = _json(raw.value)
    if isinstance(body, dict) and body.get("objects_url"):
        body = {**body, "objects_url": HIDDEN}  # a task's address of the gateway, which needs no key
    shown: Record = {"body": hide_secrets(body)} if body is not None else _as_text("body", raw.value)
    headers = [{"name": name, **_as_text("value", value)} for name, value in raw.headers]
    return {
        **letter_of(raw, act, now),
        "key": None if raw.key is None else raw.key.decode("utf-8", "replace"),
        "headers": headers,
        **shown,
    }


def summary(letters: Iterable[Record]) -> list[Record]:
    """Number, oldest and newest of the letters, by topic, group, code and state; most first."""
    found: dict[tuple[str, ...], Record] = {}
    for letter in letters:
        names = ("topic", "source", "group", "code", "state")
        key = tuple(str(letter[n]) for n in names)
        line = found.setdefault(
            key, {**{n: letter[n] for n in names}, "count": 0, "oldest": letter["at"], "newest": letter["at"]}
        )
        line["count"] += 1
        line["oldest"], line["newest"] = min(line["oldest"], letter["at"]), max(line["newest"], letter["at"])
    return sorted(found.values(), key=lambda line: (-line["count"], line["topic"]))


def sendable(headers: Headers) -> Headers:
    """The headers that the record had before it was dead-lettered."""
    return tuple((name, value) for name, value in headers if not name.startswith(OWN))


def edited(raw: Raw, merge: Any, value: str | None, headers: Mapping[str, str | None]) -> tuple[bytes, Headers]:
    """Value and headers of a changed copy: `value` replaces the body, `merge` changes it (RFC 7396), a header of None is taken away.

    Raises `ValueError` when the readers of the source could not read the copy either.
    """
    body = raw.value if value is None else value.encode()
    if merge is not None:
        document = _json(body)
        if document is None:
            raise ValueError("merge: the body is no JSON; give the whole body as value")
        body = json.dumps(merged(document, merge), ensure_ascii=False, separators=(",", ":")).encode()
    kept = tuple((name, told) for name, told in sendable(raw.headers) if name not in headers)
    changed = kept + tuple((name, told.encode()) for name, told in headers.items() if told is not None)
    types = _types_of(raw.source or "")
    if types is not None:
        try:
            from_record(body, changed, types)
        except UndecodableRecord as error:
            raise ValueError(f"the copy could not be read either: {error}") from None
    return body, changed


def _types_of(source: str) -> frozenset[str] | None:
    """Types that readers of a topic decode; None for a topic that this release does not know."""
    tenant = tenant_of(source)
    if tenant is not None:
        row = tenant_commands_topic(tenant) if source.endswith(".commands") else tenant_events_topic(tenant)
        return row.types
    if source.startswith(TASK_PREFIX):
        return task_topic(source.removeprefix(TASK_PREFIX)).types
    return next((t.types for t in TOPICS if t.name == source), None)


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _job_id(raw: Raw, body: Any) -> str | None:
    """The job that the record names: in its body, or by its key on a topic that is keyed by jobs."""
    if isinstance(body, dict):
        inner = body.get("event")
        named = body.get("job_id") or (inner.get("job_id") if isinstance(inner, dict) else None)
        if isinstance(named, str):
            return named
    keyed = next((t.key == "job id" for t in TOPICS if t.name == raw.source), False)
    return raw.key.decode("utf-8", "replace") if keyed and raw.key else None


def _as_text(name: str, value: bytes) -> Record:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _number(told: str | None) -> float | None:
    try:
        return float(told) if told is not None else None
    except ValueError:
        return None
