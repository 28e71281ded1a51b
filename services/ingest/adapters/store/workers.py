"""The newest sign of life of each worker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel

from contracts import WorkerSeen
from services.ingest.core.job_view import text as shown_time

LATE_S = 120.0
"""A sign of life that is older when it is read counts from the time that it says itself, else from when it is read."""
KEPT_S = 86_400.0
"""Seconds after which a worker that gives no sign is forgotten."""


class WorkerRow(SQLModel, table=True):
    """A worker's newest sign of life, given at `at` (Unix seconds)."""

    __tablename__ = "worker_view"
    name: str = Field(primary_key=True)
    at: float
    body: str


MODELS: tuple[type[SQLModel], ...] = (WorkerRow,)
_SAVE = text(
    "INSERT INTO worker_view (name, at, body) VALUES (:name, :at, :body) ON CONFLICT (name) DO UPDATE SET at = excluded.at, "
    "body = excluded.body WHERE worker_view.at <= excluded.at"
)
_OLD = text("DELETE FROM worker_view WHERE at < :old")
_ALL = text("SELECT body FROM worker_view ORDER BY name")


def save_worker(connection: Connection, seen: WorkerSeen, now: float) -> None:
    """Keep a sign of life that was read at `now` (Unix seconds), and forget workers that were last seen a day before it."""
    said = seen.seen_at.timestamp()
    # A worker's clock may be wrong; a record that waited for a reader is an old one.
    at = said if now - said > LATE_S else now
    body = {**json.loads(seen.to_json()), "seen_at": shown_time(datetime.fromtimestamp(at, UTC))}
    connection.execute(_SAVE, {"name": seen.worker, "at": at, "body": json.dumps(body)})
    connection.execute(_OLD, {"old": at - KEPT_S})


def all_workers(connection: Connection) -> list[dict[str, Any]]:
    """All signs of life, as their messages."""
    return [json.loads(body) for body in connection.execute(_ALL).scalars()]
