"""Every metric and span name, typed, with unit and meaning. An unknown name fails mypy."""

from __future__ import annotations

from typing import Final, Literal

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

Counter = Literal[
    "messaging.client.sent.messages",  # {message}: records acknowledged by Kafka
    "messaging.client.consumed.messages",  # {message}: records delivered to us, once per delivery
    "pipeline.inbox.duplicates",  # {message}: repeats that the inbox dropped
    "pipeline.dead_letters",  # {message}: records dead-lettered, by code
    "pipeline.commands.refused",  # {command}: operators' commands on a topic that producers write
    "pipeline.reports.refused",  # {report}: late, repeated or forged reports
    "pipeline.webhook.attempts",  # {attempt}: webhook tries, by outcome
    "pipeline.offset_commit.failures",  # {commit}
]
Histogram = Literal[
    "messaging.client.operation.duration",  # s: one send or commit; never processing time
    "messaging.process.duration",  # s: one batch in our handler
    "pipeline.job.stage.duration",  # s: one attempt of one step on a worker
    "pipeline.batch.records",  # {record}: size of a consumed batch
    "pipeline.audit.differences",  # {difference}: between topics and stores, as `stageline verify` found
]
SpanOperation = Literal["create", "send", "process", "poll", "commit"]

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
