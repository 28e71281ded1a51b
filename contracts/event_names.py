"""The names of events for consumers: one `type` each, beside its CloudEvents type and Alfred's name. A filter may use any of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from contracts.alfred import AlfredEvent
from contracts.message import Message
from contracts.topics import FILE_EVENTS_TOPIC, JOB_EVENTS_TOPIC, SESSION_EVENTS_TOPIC


@dataclass(frozen=True, slots=True)
class EventName:
    """The names of one event: `job.finished`, `stageline.job.finished.v1`, `job_finished_event` (if Alfred has it), `JobFinished`."""

    type: str
    cloud_event: str
    alfred: str | None
    model: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a filter may use."""
        return (self.type, self.cloud_event, *([self.alfred] if self.alfred else ()))


@cache
def name_of(model: type[Message]) -> EventName:
    """The names of an event's class."""
    inner: object = model.model_fields["event"].annotation if issubclass(model, AlfredEvent) else None
    return EventName(short_type(model.TYPE), model.TYPE, getattr(inner, "NAME", None), model.__name__)


def short_type(cloud_event: str) -> str:
    """`job.finished` for `stageline.job.finished.v1`."""
    return cloud_event.removeprefix("stageline.").rpartition(".v")[0]


EVENTS: tuple[EventName, ...] = tuple(
    name_of(model) for topic in (JOB_EVENTS_TOPIC, FILE_EVENTS_TOPIC, SESSION_EVENTS_TOPIC) for model in topic.models
)
"""Every event that webhooks and streams carry, in the order of its topic."""


def matches(filters: Sequence[str], names: Sequence[str]) -> bool:
    """True when a filter matches one of the names; `*` matches any text (`job.*`). An empty list matches every event."""
    return not filters or any(fnmatchcase(name, pattern) for pattern in filters for name in names)


def unmatched(filters: Iterable[str]) -> list[str]:
    """The filters that match no event there is: a consumer with such a filter would wait for ever."""
    return [pattern for pattern in filters if not any(matches([pattern], event.names) for event in EVENTS)]


def with_type(body: bytes, type_: str) -> bytes:
    """The JSON object of an event, with its `type` as the first member. `body` has no such member."""
    return b'{"type":"' + type_.encode() + (b'",' if body[1:2] != b"}" else b'"') + body[1:]
