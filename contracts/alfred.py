"""Alfred's envelope and the fields that all of its events share (reference/vendor-apis.md §1.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Generic, Self, TypeVar

from contracts.loose import Id, Text, Timestamp
from contracts.message import Contract, Message


class AlfredFields(Contract):
    """The inner `event` object. Fields marked *Ours* are additions to the vendor's shape. All of them are optional."""

    NAME: ClassVar[str]
    """Event name in the scheme of Alfred's current SDK, e.g. `job_stage_update_event`."""
    KIND: ClassVar[str]
    """`job_event` or `file_event`."""

    event_name: str
    event_type: str
    company_id: Id
    company_name: Text
    sequence: int | None = None
    """Ours: number of the event among the job events of its job; 1, 2, 3 and so on without a gap."""
    caused_by: str | None = None
    """Ours: id of the message that caused this event."""
    workflow: str | None = None
    """Ours: `name@version` of the workflow that the job runs."""
    step: str | None = None
    """Ours: the workflow's step that this event is about."""

    @property
    def subject(self) -> str:
        """The id of the event's job. Where the vendor's shape has no job: the file's id, then the company's."""
        job_id = getattr(self, "job_id", None) or getattr(self, "file_id", None) or getattr(self, "file_log_id", None)
        return str(job_id or self.company_id)


F = TypeVar("F", bound=AlfredFields)


class AlfredEvent(Message, Generic[F]):
    """Alfred's envelope: `{event_id, event_type, event_time, event{…}}`. `event_time` is in Unix seconds."""

    event_id: Id
    event_type: str
    event_time: float
    event: F

    @classmethod
    def of(cls, *, event_id: str, at: datetime, **fields: Any) -> Self:
        """An event of `fields`, which are those of the inner object. Raises `ValidationError` when one is invalid."""
        inner: type[F] = _inner(cls)
        body = inner(event_name=inner.NAME, event_type=inner.KIND, **fields)
        return cls(event_id=event_id, event_type=inner.KIND, event_time=round(at.timestamp(), 3), event=body)

    @classmethod
    def fact(cls, event_id: str, unix: float, fields: dict[str, Any]) -> Self:
        """As `of`, from validated values (see `Contract.trusted`). `unix` is in seconds. Adds the event's name and type to `fields`."""
        inner: type[F] = _inner(cls)
        fields["event_name"], fields["event_type"] = inner.NAME, inner.KIND
        body = inner.assembled(fields)
        return cls.assembled({"event_id": event_id, "event_type": inner.KIND, "event_time": round(unix, 3), "event": body})

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def key(self) -> str:
        return self.event.subject

    @property
    def time(self) -> datetime:
        return _at(self.event_time)

    @property
    def tenant(self) -> str:
        return self.event.company_id


@lru_cache
def _inner(model: type[AlfredEvent[Any]]) -> Any:
    return model.model_fields["event"].annotation


@lru_cache(maxsize=1000)
def _at(unix: float) -> datetime:
    # The events of one decision have the same time.
    return datetime.fromtimestamp(unix, UTC)


class Dated(AlfredFields):
    """Fields of an event that carries its job's dates."""

    creation_date: Timestamp
    update_date: Timestamp
