"""Seals outgoing records where the deployment wants it (`STAGELINE_SEAL_RECORDS`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace

from aiokafka.errors import KafkaError

from contracts.sealing import SUBJECT_HEADER, header, is_sealed
from contracts.topics import NEVER_SEALED, PLAIN_WHEN_ERASED, SEAL_KEYS_TOPIC, TASK_PREFIX, holds_content
from shared.errors import Retry
from shared.kafka.outgoing import Outgoing
from stageline_kit.record_seals import RecordSeals

log = logging.getLogger(__name__)


class Sealing:
    """Seals the records of a process once it is `start`ed."""

    def __init__(self, seals: RecordSeals) -> None:
        self.seals = seals
        self.on = False

    async def start(self) -> None:
        """Read all keys, and seal from now on. Raises `Retry` while Kafka does not answer."""
        try:
            await self.seals.catch_up()
        except (KafkaError, TimeoutError) as error:
            raise Retry("kafka_unavailable", f"{SEAL_KEYS_TOPIC.name} cannot be read: {error!r}") from error
        self.on = True

    def sealed(self, rows: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """The rows as they are sent: those with content of jobs are sealed, and facts about erased jobs are left out.

        Raises `Retry` while there is no key.
        """
        if not self.on:
            return rows
        found = (self._sealed(row) if _has_content(row) else row for row in rows)
        return [row for row in found if row is not None]

    def _sealed(self, row: Outgoing) -> Outgoing | None:
        headers = row.headers
        if row.topic.startswith(TASK_PREFIX) and header(headers, SUBJECT_HEADER) is None:
            # A task may be keyed by its file.
            headers = (*headers, (SUBJECT_HEADER, str(json.loads(row.value)["job_id"]).encode()))
        try:
            made = self.seals.seal(row.key, row.value, headers)
        except LookupError as error:
            raise Retry("no_seal_key", f"{error}; the orchestrator makes one when it starts") from error
        if made is not None:
            return replace(row, value=made[0], headers=made[1], plain=row)
        if row.topic in PLAIN_WHEN_ERASED:
            return row
        log.info("a record of an erased job was not written", extra={"topic": row.topic})
        return None


def _has_content(row: Outgoing) -> bool:
    sealable = row.value and holds_content(row.topic) and not is_sealed(row.headers)
    return bool(sealable) and header(row.headers, "ce_type") not in NEVER_SEALED
