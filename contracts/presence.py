"""Workers say that they live, which actions they take, and what they run."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from contracts.identity import derived
from contracts.loose import Id, Timestamp
from contracts.message import Contract, Message

MOST_HELD = 100
WORKER_ALIVE_S = 30.0
"""Seconds after a worker's last sign of life until it counts as gone: three signs missed."""


class HeldTask(Contract):
    """A task that a worker runs."""

    job_id: Id
    tenant_id: Id
    step: str = Field(min_length=1, max_length=100)
    action: str = Field(min_length=1, max_length=100)
    file_id: Id | None = None
    attempt: int = Field(ge=1)
    since: Timestamp


class WorkerSeen(Message):
    """A worker is running and takes these actions. Sent every ten seconds, and once with `leaving` when it stops."""

    TYPE = "stageline.worker.seen.v1"
    VERSION = "1.1"
    worker: Id
    actions: tuple[str, ...] = Field(max_length=1000)
    slots: int = Field(ge=0)
    """Tasks that the worker runs at a time."""
    leaving: bool = False
    client: str | None = Field(default=None, max_length=200)
    seen_at: Timestamp
    holds: tuple[HeldTask, ...] | None = Field(default=None, max_length=MOST_HELD)
    """Tasks that the worker runs now, the oldest first; no more than fit. Absent: the worker does not say."""

    @property
    def message_id(self) -> str:
        return derived(self.worker, "seen", self.seen_at.isoformat())

    @property
    def key(self) -> str:
        return self.worker

    @property
    def time(self) -> datetime:
        return self.seen_at

    @property
    def tenant(self) -> str:
        return "workers"
