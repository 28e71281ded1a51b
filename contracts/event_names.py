"""The names of the events that leave by webhooks and streams: ours, the CloudEvents type, and Alfred's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from contracts.file_commands import FileErased
from contracts.file_events import FILE_EVENTS
from contracts.job_control import JobErased
from contracts.job_events import JOB_EVENTS
from contracts.message import Message
from contracts.session import SESSION_EVENTS


@dataclass(frozen=True, slots=True)
class EventName:
    """The names of one class of events. `name` is the `type` in the bodies of webhooks and streams."""

    name: str
    """As `job.finished`."""
    type_: str
    """CloudEvents `type`, as `stageline.job.finished.v1`."""
    alfred: str | None
    """As `job_finished_event`; None for events that Alfred does not have."""
    model: type[Message]
    streamed: bool
    """False for events that webhooks alone carry."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every name that a filter may use, `alfred_event_job_finished` of the vendor's Node.js client included."""
        if self.alfred is None:
            return (self.name, self.type_)
        return (self.name, self.type_, self.alfred, f"alfred_event_{self.alfred.removesuffix('_event')}")


def short_name(type_: str) -> str:
    """`job.finished` for the CloudEvents type `stageline.job.finished.v1`."""
    return type_.removeprefix("stageline.").rpartition(".v")[0]


def _named(model: type[Message], streamed: bool = True) -> EventName:
    field = model.model_fields.get("event")
    inner: Any = None if field is None else field.annotation
    return EventName(short_name(model.TYPE), model.TYPE, getattr(inner, "NAME", None), model, streamed)


EVENT_NAMES: tuple[EventName, ...] = (
    *(_named(model) for model in (*JOB_EVENTS, *FILE_EVENTS, *SESSION_EVENTS)),
    *(_named(model, streamed=False) for model in (JobErased, FileErased)),
)
"""One row per event, in the order of their topics."""
_BY_MODEL = {row.model: row for row in EVENT_NAMES}


def name_of(message: Message) -> str:
    """The `type` of an event in the bodies of webhooks and streams."""
    return short_name(message.TYPE)


def spellings_of(model: type[Message]) -> tuple[str, ...]:
    """Every name that a filter may use for events of this class."""
    row = _BY_MODEL.get(model)
    return (short_name(model.TYPE), model.TYPE) if row is None else row.spellings


def wanted(filters: Sequence[str], names: Sequence[str]) -> bool:
    """True when a filter matches one of the names; `*` matches any text (`job.*`). An empty list matches every event."""
    return not filters or any(fnmatchcase(name, pattern) for pattern in filters for name in names)


def fault_in(filters: Iterable[str], streamed: bool = False) -> str | None:
    """A sentence with the first filter that matches no event, and the names that exist; None when all match.

    `streamed`: the filters of a stream, which has fewer events than webhooks have.
    """
    rows = [row for row in EVENT_NAMES if row.streamed or not streamed]
    for pattern in filters:
        if not any(wanted([pattern], row.spellings) for row in rows):
            names = ", ".join(row.name for row in rows)
            return f"{pattern!r} matches no event. `*` stands for any part of a name. The events are {names}."
    return None


def typed_body(message: Message) -> bytes:
    """The event as JSON, with its name as the first member, `type`."""
    return b'{"type":"%b",%b' % (name_of(message).encode(), message.to_json()[1:])
