"""Alfred's envelope and what all of its events share (reference/vendor-apis.md §1.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar, Generic, Self, TypeVar

from contracts.loose import Id, Text, Timestamp
from contracts.message import Contract, Message


class AlfredFields(Contract):
    """The inner `event` object. Fields marked *ours* are additions to the vendor's shape; all are optional."""

    NAME: ClassVar[str]
    """Event name in the scheme of Alfred's current SDK, e.g. `job_stage_update_event`."""
    KIND: ClassVar[str]
    """`job_event` or `file_event`."""

    event_name: str
    event_type: str
    company_id: Id
    company_name: Text
    sequence: int | None = None
    """Ours: dense per job, from 1, over its job events."""
    caused_by: str | None = None
    """Ours: id of the message that led to this event."""
    workflow: str | None = None
    """Ours: `name@version` the job is pinned to."""
    step: str | None = None
    """Ours: step of the workflow."""

    @property
    def subject(self) -> str:
        """The job this event belongs to, or the file where the vendor's shape names no job."""
        job_id = getattr(self, "job_id", None) or getattr(self, "file_id", None) or getattr(self, "file_log_id", None)
        return str(job_id or self.company_id)


F = TypeVar("F", bound=AlfredFields)


class AlfredEvent(Message, Generic[F]):
    """`{event_id, event_type, event_time, event{…}}`; `event_time` in Unix seconds."""

    event_id: Id
    event_type: str
    event_time: float
    event: F

    @classmethod
    def of(cls, *, event_id: str, at: datetime, **fields: Any) -> Self:
        """Make an event for the wire. `fields` are those of the inner object; raises `ValidationError` if one is wrong."""
        inner: type[F] = _inner(cls)
        body = inner(event_name=inner.NAME, event_type=inner.KIND, **fields)
        return cls(event_id=event_id, event_type=inner.KIND, event_time=round(at.timestamp(), 3), event=body)

    @classmethod
    def fact(cls, event_id: str, unix: float, fields: dict[str, Any]) -> Self:
        """As `of`, from values that are checked already (`Contract.trusted`), at a time in Unix seconds; `fields` gets further entries."""
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
    # All that follows from one decision has one time.
    return datetime.fromtimestamp(unix, UTC)


class Dated(AlfredFields):
    """Events that carry the dates of their object."""

    creation_date: Timestamp
    update_date: Timestamp
