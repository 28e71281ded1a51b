"""Loads a session, decides, saves it and emits the events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from contracts import AddFile, CloseSession, EraseSession, FileErased, JobErased, OpenSession, SessionCommand
from contracts.topics import SESSION_EVENTS_TOPIC
from services.session.core.decide import Expire, decide
from services.session.ports import SessionStore
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit


class Sessions:
    """Handlers of the session service. `stores` makes a `SessionStore` for a connection."""

    def __init__(self, stores: Callable[[Connection], SessionStore]) -> None:
        self.stores = stores

    def on_batch(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        """Handle a batch of `session.commands` and `job.erasures`."""
        store = self.stores(unit.connection)
        for item in batch:
            with item.guard():
                if isinstance(item.message, JobErased):
                    if item.message.session_id is not None:
                        store.erase(item.message.session_id)
                elif isinstance(item.message, FileErased):
                    if item.message.session_id is not None:
                        store.erase_file(item.message.session_id, item.message.file_id)
                elif isinstance(item.message, (OpenSession, AddFile, CloseSession, EraseSession)):
                    self._apply(unit, store, item.message.session_id, item.message, item.trace)

    def fire(self, unit: Unit, limit: int) -> int:
        """Expire at most `limit` sessions that are due; returns how many were due."""
        store = self.stores(unit.connection)
        due = store.due(unit.now, limit)
        for session_id in due:
            self._apply(unit, store, session_id, Expire(session_id), None)
        return len(due)

    def _apply(self, unit: Unit, store: SessionStore, session_id: str, event: SessionCommand | Expire, trace: str | None) -> None:
        before = store.session(session_id)
        now = datetime.fromtimestamp(unit.now, UTC)
        decision = decide(before, event, now, store)
        # Emit before saving: an event that is too large dead-letters the command and must leave the session unchanged.
        with unit.savepoint():
            for message in decision.outputs:
                unit.emit(SESSION_EVENTS_TOPIC.name, message, trace)
        if decision.erases:
            store.erase(session_id)
        elif decision.session is not None and decision.session is not before:
            store.save(decision.session)
            if decision.adds_file and isinstance(event, AddFile):
                store.add_file(session_id, decision.session.file_count, event.file)
