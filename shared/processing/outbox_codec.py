"""Encodes records as the text of one outbox row, so that a transaction's output is written, read and deleted as one row."""

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
"""Prefixes of the topics of commands. Commands are sent after the facts that they follow from."""
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
    """JSON of records. Encodes bytes as UTF-8. If any value is not valid UTF-8 (a dead letter), all are encoded as Latin-1."""
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
    """True for a topic of facts, which are sent before commands."""
    return not topic.startswith(COMMAND_TOPICS)


def insert_batch(connection: Connection, shard: str, rows: Sequence[Outgoing], now: float) -> int:
    """Insert the records of a shard as one row, in the order given. Returns the row's id."""
    [[number]] = _INSERT.rows(connection, {"shard": shard, "body": pack(rows), "records": len(rows), "at": now})
    return int(number)


def shard_values(batches: Mapping[str, Sequence[Outgoing]], now: float) -> dict[str, Any]:
    """The values of `INSERT_SHARDS`: `batches` maps a shard to its records, `now` is in Unix seconds."""
    bodies = list(map(pack, batches.values()))
    return {"places": list(batches), "bodies": bodies, "counts": list(map(len, batches.values())), "at": now}
