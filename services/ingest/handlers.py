"""Handles batches of the gateway's event streams: load what they concern, project each event, write, then wake waiting requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts import Message, WorkerSeen
from contracts.job_events import JOB_EVENTS
from services.ingest.adapters.store.record_batch import RecordBatch
from services.ingest.core.numbering import number_of
from services.ingest.core.record_keys import keys_of
from services.ingest.projector import project
from services.ingest.settings import IngestSettings
from shared.processing.inbox import DedupPolicy
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit

log = logging.getLogger(__name__)
Record = dict[str, Any]
Answers = Sequence[tuple[str, Record]]
"""Pairs of a command's id and its answer."""


class Projector:
    """Handler of the gateway's subscriptions. `deliver` gets the answers and the changed jobs of a batch once they are committed."""

    def __init__(self, deliver: Callable[[Answers, Mapping[str, Record]], None], settings: IngestSettings) -> None:
        self.deliver = deliver
        self.settings = settings

    def __call__(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        records = on_batch(unit, batch, self.settings)
        answers, jobs = records.decisions, records.changed_jobs()
        if answers or jobs:
            unit.after_commit.append(lambda: self.deliver(answers, jobs))


def on_batch(unit: Unit, batch: Sequence[Inbound], settings: IngestSettings | None = None) -> RecordBatch:
    """Project a batch into the read model. Returns its records."""
    records = RecordBatch(unit, keys_of(item.message for item in batch), settings or IngestSettings())
    for item in batch:
        with item.guard():
            project(records, item)
    records.save()
    unit.telemetry.count("pipeline.inbox.duplicates", records.duplicates)
    if records.foreign:
        log.warning("events named records of another tenant, which were left alone", extra={"count": records.foreign})
    return records


def dedup_policy(message: Message) -> DedupPolicy:
    """How the inbox recognizes a repeated event. Numbered job events need no inbox row (`core/numbering.py`), nor do signs of life."""
    plain = isinstance(message, WorkerSeen) or (isinstance(message, JOB_EVENTS) and number_of(message) is not None)
    return DedupPolicy.NONE if plain else DedupPolicy.BY_ID
