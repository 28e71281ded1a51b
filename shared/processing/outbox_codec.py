"""Records as the text of one outbox row: what a transaction decides is written, read and deleted as one thing.

A row per record cost a five-stage job fourteen inserts and as many deletions, a fifth of PostgreSQL's work for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json
from sqlalchemy import Connection

from contracts.topics import STAGE_CANCELLATIONS_TOPIC, TASK_PREFIX
from shared.database.statements import Statement
from shared.kafka.outgoing import Outgoing

COMMAND_TOPICS = (TASK_PREFIX, STAGE_CANCELLATIONS_TOPIC.name)
"""What follows from facts, and is sent after them also when it was left behind."""
_INSERT = Statement(
    "INSERT INTO outbox_batch (shard, body, records, created_at) VALUES (:shard, :body, :records, :at) RETURNING id"
)
INSERT_SHARDS = (
    "INSERT INTO outbox_batch (shard, body, records, created_at) SELECT given.shard, given.body, given.records, "
    "CAST(:at AS double precision) FROM unnest(CAST(:places AS text[]), CAST(:bodies AS text[]), CAST(:counts AS integer[])) "
    "AS given(shard, body, records) RETURNING id, shard"
)
"""Writes one row for each shard on PostgreSQL, with the values of `shard_values`; returns the ids and the shards."""


def pack(rows: Sequence[Outgoing]) -> str:
    """JSON of records. Texts are as they are; where one is no UTF-8 (a dead letter's bytes), all of them are by Latin-1."""
    records = [(r.topic, r.key, r.value, r.headers) for r in rows]
    try:
        return to_json(("utf-8", records)).decode()
    except PydanticSerializationError:
        plain = [
            (
                topic,
                None if key is None else key.decode("latin-1"),
                value.decode("latin-1"),
                [(n, v.decode("latin-1")) for n, v in headers],
            )
            for topic, key, value, headers in records
        ]
        return json.dumps(("latin-1", plain))


def unpack(body: str) -> list[Outgoing]:
    """Inverse of `pack`."""
    encoding, records = from_json(body)
    return [
        Outgoing(
            topic, None if key is None else key.encode(encoding), value.encode(encoding),
            tuple((n, v.encode(encoding)) for n, v in headers), is_urgent(topic),
        )
        for topic, key, value, headers in records
    ]  # fmt: skip


def is_urgent(topic: str) -> bool:
    """Facts go first, the commands that follow from them after."""
    return not topic.startswith(COMMAND_TOPICS)


def insert_batch(connection: Connection, shard: str, rows: Sequence[Outgoing], now: float) -> int:
    """Write the rows of a shard together, in the order given. Returns the id of what holds them."""
    [[number]] = _INSERT.rows(connection, {"shard": shard, "body": pack(rows), "records": len(rows), "at": now})
    return int(number)


def shard_values(batches: Mapping[str, Sequence[Outgoing]], now: float) -> dict[str, Any]:
    """The values of `INSERT_SHARDS`: `batches` maps a shard to its records, `now` is in Unix seconds."""
    bodies = list(map(pack, batches.values()))
    return {"places": list(batches), "bodies": bodies, "counts": list(map(len, batches.values())), "at": now}
