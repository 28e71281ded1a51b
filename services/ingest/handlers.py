"""Handles batches of the gateway's event streams: load what they concern, project each event, write, then wake waiting requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contracts import Message
from contracts.job_events import JOB_EVENTS
from services.ingest.adapters.store.record_batch import RecordBatch
from services.ingest.core.numbering import number_of
from services.ingest.core.record_keys import keys_of
from services.ingest.projector import project
from shared.processing.inbox import DedupPolicy
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit

Record = dict[str, Any]
Answers = Sequence[tuple[str, Record]]
"""Pairs of a command's id and its answer."""


class Projector:
    """Handler of the gateway's subscriptions. `deliver` gets the answers of a batch once they are committed."""

    def __init__(self, deliver: Callable[[Answers], None]) -> None:
        self.deliver = deliver

    def __call__(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        answers = on_batch(unit, batch)
        if answers:
            unit.after_commit.append(lambda: self.deliver(answers))


def on_batch(unit: Unit, batch: Sequence[Inbound]) -> Answers:
    """Project a batch into the read model. Returns the answers that it holds."""
    records = RecordBatch(unit, keys_of(item.message for item in batch))
    for item in batch:
        with item.guard():
            project(records, item)
    records.save()
    unit.telemetry.count("pipeline.inbox.duplicates", records.duplicates)
    return records.decisions


def dedup_policy(message: Message) -> DedupPolicy:
    """How the inbox recognizes a repeated event. Numbered job events need no inbox row: see `core/numbering.py`."""
    return DedupPolicy.NONE if isinstance(message, JOB_EVENTS) and number_of(message) is not None else DedupPolicy.BY_ID
