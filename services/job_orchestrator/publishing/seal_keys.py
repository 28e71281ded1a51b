"""Seal keys: made every few hours, told on `seal.keys`, and punctured when a job is erased (`contracts/sealing.py`)."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection

from contracts import SealKeyChanged
from contracts.sealing import DEPTH, MAIN, NODE_BYTES, PART_DEPTH, Tree, changed_parts, leaf_of, puncture
from contracts.topics import SEAL_KEYS_TOPIC
from services.job_orchestrator.core.job import Job
from services.job_orchestrator.ports import SealStore
from shared import clock
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
RENEW_S = 6 * 3600
"""How long records are sealed with one key. Its last change is then told again, so that Kafka forgets the states before it."""
KEEP_S = 100 * 86_400
"""How long a key is kept after its use: longer than any sealed record stays on its topic."""
SLACK_S = 600.0
"""How long a process may go on to seal with a key after the next one was made."""


class SealKeyTimer:
    """Makes the next seal key when the newest is `RENEW_S` old. `next_due` and `fire` are those of a `TimerLoop`."""

    def __init__(self, store: Callable[[Connection], SealStore]) -> None:
        self.store = store

    def next_due(self, connection: Connection) -> float | None:
        """When the next key is due, in Unix seconds; 0 for at once."""
        newest = self.store(connection).newest_at()
        return 0.0 if newest is None else newest + RENEW_S

    def fire(self, unit: Unit, limit: int) -> int:
        """Make a key if one is due, and forget keys that no record needs any more."""
        store = self.store(unit.connection)
        store.lock()
        newest = store.newest_at()
        if newest is not None and newest + RENEW_S > unit.now:
            return 0
        key_id = clock.new_root()
        store.add(key_id, unit.now)
        root: Tree = {(0, 0): os.urandom(NODE_BYTES)}
        _tell(unit, store, key_id, root, [MAIN], unit.now)
        for old, parts in store.forget_old(unit.now - KEEP_S).items():
            for part in parts:
                unit.emit_tombstone(SEAL_KEYS_TOPIC.name, f"{old}/{part}")
        log.info("records are sealed with a new key", extra={"seal_key": key_id})
        return 1


def destroy_keys_of(unit: Unit, store: SealStore, job: Job) -> None:
    """Destroy the keys of an erased job and of the session that it was made from, under every seal key that was used for them."""
    made = job.created_at.timestamp()
    destroy_keys(unit, store, [job.id], made)
    if job.session_id is not None:
        destroy_keys(unit, store, [job.session_id], min(made, _opened_at(job.session_id)))


def destroy_keys_of_session(unit: Unit, store: SealStore, session_id: str) -> None:
    """Destroy the key of an erased session that no job was made from, under every seal key that was used for it."""
    destroy_keys(unit, store, [session_id], min(unit.now, _opened_at(session_id)))


def destroy_keys(unit: Unit, store: SealStore, subjects: Iterable[str], since: float) -> None:
    """Destroy the keys of `subjects` under each seal key that was in use at `since` (Unix seconds) or later."""
    used = store.used_since(since - SLACK_S)
    if not used:
        return
    store.lock()
    for subject in subjects:
        part = leaf_of(subject) >> (DEPTH - PART_DEPTH)
        for key_id, created_at in used.items():
            before = store.tree(key_id, part)
            after = puncture(before, subject)
            _tell(unit, store, key_id, after, changed_parts(before, after), created_at)


def _tell(unit: Unit, store: SealStore, key_id: str, tree: Tree, parts: list[int], created_at: float) -> None:
    at = datetime.fromtimestamp(unit.now, UTC)
    for part, (version, nodes) in store.write(key_id, tree, parts).items():
        event = SealKeyChanged(
            key_id=key_id, part=part, version=version, nodes=nodes, created_at=datetime.fromtimestamp(created_at, UTC), changed_at=at,
        )  # fmt: skip
        unit.emit(SEAL_KEYS_TOPIC.name, event, None, traced=False)


def _opened_at(session_id: str) -> float:
    """Unix seconds at which a session was opened at the earliest: the time in a UUIDv7, which the gateway gives; 0 for any other id."""
    try:
        parsed = uuid.UUID(session_id)
    except ValueError:
        return 0.0
    return (parsed.int >> 80) / 1000 if parsed.version == 7 else 0.0
