"""Compares topics, stores and webhooks of a deployment: the same jobs, files and events in all of them, each once.

    python -m tests.compose.check [PROJECT]

prints the counts of a running compose project and exits 1 when they differ.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from standardwebhooks.webhooks import Webhook

from contracts import MODELS, from_record
from stageline_kit import kafka_options
from tests.compose.deployment import Compose


@dataclass
class Findings:
    """The counts, and a sentence for every fault."""

    counts: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect(self, fact: bool, sentence: str) -> None:
        """Note a fault unless `fact` holds."""
        if not fact:
            self.faults.append(sentence)


async def read_events(kafka: dict[str, str]) -> list[Any]:
    """Every record of the event topics, in the order of each partition."""
    consumer = AIOKafkaConsumer(
        "job.events", "file.events", "session.events", **kafka_options(None, {}, kafka), group_id=None, auto_offset_reset="earliest",
        enable_auto_commit=False,
    )  # fmt: skip
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        found: list[Any] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += records
        return found
    finally:
        await consumer.stop()


def check_events(found: Findings, records: list[Any]) -> tuple[dict[str, str], set[str]]:
    """Check that sequences are dense, jobs end once and repeats are identical. Returns job → last event name, and all event ids."""
    seen: dict[str, bytes] = {}
    sequences: dict[str, list[int]] = defaultdict(list)
    ends: dict[str, list[str]] = defaultdict(list)
    done: Counter[str] = Counter()
    repeats = 0
    for r in records:
        message: Any = from_record(r.value, r.headers, frozenset(MODELS))
        if message.message_id in seen:
            repeats += 1
            found.expect(seen[message.message_id] == r.value, f"{message.message_id} came twice with different bytes")
            continue
        seen[message.message_id] = r.value
        event = getattr(message, "event", None)
        if event is not None and event.KIND == "job_event":
            sequences[event.job_id].append(event.sequence)
            if event.NAME in ("job_finished_event", "job_failed_event", "job_invalid_event"):
                ends[event.job_id].append(event.NAME)
        elif event is not None and event.NAME == "file_done_event":
            done[event.file_id] += 1
    for job, numbers in sequences.items():
        found.expect(numbers == list(range(1, len(numbers) + 1)), f"job {job}: sequence {numbers}")
        found.expect(len(ends[job]) == 1, f"job {job}: ends {ends[job]}")
    found.expect(all(n == 1 for n in done.values()), "a file was done twice")
    found.counts |= {
        "events": len(seen), "events repeated under the same id": repeats, "jobs in topics": len(sequences), "files done": len(done)
    }  # fmt: skip
    return {job: names[-1] for job, names in ends.items() if names}, set(seen)


def check_stores(found: Findings, compose: Compose, ends: dict[str, str]) -> None:
    """Check that the orchestrator's jobs and the read model match the topics, and that no outbox row or timer is left."""
    stages = dict(compose.sql("SELECT id, body::json ->> 'stage' FROM job_orchestrator.job"))  # type: ignore[arg-type]
    views = dict(compose.sql("SELECT id, body::json ->> 'stage' FROM ingest.job_view"))  # type: ignore[arg-type]
    found.counts |= {
        "jobs in the orchestrator": len(stages),
        "jobs at the door": len(views),
        "stages": dict(Counter(stages.values())),
    }
    found.expect(stages.keys() == ends.keys(), "orchestrator and topics know different jobs")
    found.expect(stages == views, "orchestrator and door differ")
    for schema in ("session", "job_orchestrator", "notifier", "ingest"):
        [[waiting]] = compose.sql(f"SELECT count(*) FROM {schema}.outbox_batch")
        found.expect(waiting == "0", f"{schema}: {waiting} outbox rows unsent")
    [[timers]] = compose.sql("SELECT count(*) FROM job_orchestrator.lane WHERE due_at IS NOT NULL")
    found.expect(timers == "0", f"{timers} timers of ended jobs")


def check_signature(found: Findings, request: Any, secret: str) -> None:
    """As `Webhook.verify` of the public library, without its limit on age, which early deliveries of a long test exceed by now."""
    headers = request["headers"]
    sent = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    right = Webhook(secret).sign(headers["webhook-id"], sent, request["body"])
    found.expect(right in headers["webhook-signature"].split(" "), f"webhook {headers['webhook-id']} has a wrong signature")
    found.expect(abs(request["at"] - sent.timestamp()) < 300, f"webhook {headers['webhook-id']} came too late for its time stamp")


def check_webhooks(found: Findings, compose: Compose, ids: set[str], lines: list[str], secret: str) -> None:
    """Check that every event was delivered with a valid signature, and that the notifier's log agrees."""
    delivered: Counter[str] = Counter()
    for line in lines:
        request = json.loads(line)
        headers = request["headers"]
        check_signature(found, request, secret)
        delivered[headers["webhook-id"]] += 1
    states = dict(compose.sql("SELECT state, count(*) FROM notifier.delivery GROUP BY 1"))  # type: ignore[arg-type]
    failed = compose.sql(
        "SELECT error, attempt, count(*) FROM notifier.attempt WHERE error IS NOT NULL GROUP BY 1, 2 ORDER BY 2, 1"
    )
    found.counts |= {
        "webhook requests": delivered.total(), "events by webhook": len(delivered), "deliveries": states,
        "attempts that failed": [f"{error}, attempt {attempt}: {n}" for error, attempt, n in failed],
    }  # fmt: skip
    found.expect(
        delivered.keys() == ids,
        f"{len(ids - delivered.keys())} events never came by webhook, {len(delivered.keys() - ids)} unknown",
    )
    found.expect(states == {"delivered": str(len(ids))}, f"deliveries: {states}")


async def check(compose: Compose, webhook_lines: list[str] | None = None, secret: str = "") -> Findings:
    """Run all comparisons."""
    found = Findings()
    ends, ids = check_events(found, await read_events(compose.kafka_settings("consumer")))
    await asyncio.to_thread(check_stores, found, compose, ends)
    if webhook_lines is not None:
        await asyncio.to_thread(check_webhooks, found, compose, ids, webhook_lines, secret)
    return found


def main() -> int:
    """Check a project that runs with the default ports."""
    compose = Compose((sys.argv[1:] or ["stageline"])[0], {"KAFKA_PORT": "29092"})
    found = asyncio.run(check(compose))
    for name, value in found.counts.items():
        print(f"{name:36} {value}")
    print("\n".join(["", *found.faults] if found.faults else ["", "nothing is missing, nothing is doubled"]))
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
