"""Hostile records for every topic that a service reads: noise, wrong JSON, broken envelopes, null and non-UTF-8 headers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from contracts import all_topics
from contracts.topics import DELIVERY_EVENTS_TOPIC, SECRETS_TOPIC, TASK_PREFIX

Hostile = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]
PER_TOPIC = 5
LEFT_OUT = (DELIVERY_EVENTS_TOPIC.name, SECRETS_TOPIC.name)


def hostile_records(rng: random.Random) -> Iterator[Hostile]:
    """Topic, key, value and headers of some records for each topic."""
    for topic in all_topics():
        if topic.name in LEFT_OUT or (topic.name.startswith(TASK_PREFIX) and rng.random() < 0.7):
            continue
        types = [m.TYPE.encode() for m in topic.models]
        for _ in range(PER_TOPIC):
            # Kafka itself refuses a record without a key on a compacted topic, where a value of None is a tombstone, and one with neither.
            compacted = "compact" in topic.cleanup
            value = _value(rng, compacted)
            key = b"hostile" if compacted or value is None else rng.choice([None, b"", b"hostile", rng.randbytes(10)])
            yield topic.name, key, value, _headers(rng, rng.choice(types))


def _value(rng: random.Random, compacted: bool) -> bytes | None:
    values: list[bytes | None] = [
        b"", rng.randbytes(rng.randrange(1, 200)), b"{", b"[]", b"null", b'{"event": 5}', b"[" * rng.randrange(1, 3000),
        json.dumps({"event_id": 1, "event": {"event_name": "job_create_event"}}).encode(), b'{"type": "x", "data": {}}',
        json.dumps({"job_id": "x" * 500, "status": "OK", "attempt": -1}).encode(),
    ]  # fmt: skip
    return rng.choice(values if compacted else [*values, None])


def _headers(rng: random.Random, known: bytes) -> list[tuple[str, bytes]]:
    return rng.choice(
        [[], [("ce_type", known)], [("ce_type", b"\xff\xfe")], [("x", b""), ("ce_type", known)],
         [("content-type", b"application/cloudevents+json")], [("ce_type", known), ("traceparent", b"\xff")],
         [("ce_type", b"stageline.unknown.v9")]]
    )  # fmt: skip
