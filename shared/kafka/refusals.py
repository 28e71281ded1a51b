"""Records that Kafka refuses for their own sake, while it takes others: a missing topic, a missing right, a record too large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from shared.errors import Retry
from shared.kafka.outgoing import Outgoing

MISSING: Final = "missing_topic"
FORBIDDEN: Final = "not_authorized"
TOO_LARGE: Final = "too_large"
CODES: Mapping[type[BaseException], str] = {
    UnknownTopicOrPartitionError: MISSING, InvalidTopicError: MISSING, TopicAuthorizationFailedError: FORBIDDEN,
    PolicyViolationError: FORBIDDEN, MessageSizeTooLargeError: TOO_LARGE, RecordListTooLargeError: TOO_LARGE,
}  # fmt: skip
"""Errors that concern one topic or one record. Every other error of a producer is an outage."""
WORDS: Mapping[str, str] = {
    MISSING: "the topic {0} does not exist",
    FORBIDDEN: "this service may not write to the topic {0}",
    TOO_LARGE: "a record is larger than the topic {0} takes",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that was not sent. `code` is one of `WORDS`."""

    row: Outgoing
    code: str

    @property
    def reason(self) -> str:
        """The reason, as a sentence for people."""
        return reason_of(self.code, self.row.topic)


class Unsendable(Retry):
    """Some records were refused; all others were sent. `refused` are in the order in which they were given."""

    def __init__(self, refused: Sequence[Refused]) -> None:
        super().__init__(refused[0].code, "; ".join(sorted({one.reason for one in refused})))
        self.refused = refused


def reason_of(code: str, topic: str) -> str:
    """The reason why records of `topic` are not sent, as a sentence for people."""
    return WORDS.get(code, "the topic {0} does not take the record").format(topic)


def code_of(error: BaseException | None) -> str | None:
    """The code of an error that concerns one topic or one record; None for an outage."""
    return CODES.get(type(error)) if isinstance(error, KafkaError) else None
