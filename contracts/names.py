"""Alfred's three naming schemes for one event, read into one (reference/vendor-apis.md §1.1)."""

from __future__ import annotations

from contracts.file_events import FILE_EVENTS
from contracts.job_events import JOB_EVENTS
from contracts.message import Message

_DOCS_ONLY = {"file_added_to_job_event": "file_add_to_job_event"}

_ALFRED: dict[str, type[Message]] = {}
for _model in (*JOB_EVENTS, *FILE_EVENTS):
    _fields = _model.model_fields["event"].annotation
    assert _fields is not None
    _ALFRED[_fields.NAME] = _model


def canonical_event_name(name: str) -> str | None:
    """Our writers' spelling (`job_create_event`) for any of the three, or None when no event has that name.

    Accepts `job_create_event`, `file_added_to_job_event` (documents), `alfred_event_job_create` (Node SDK).
    """
    name = name.strip().lower()
    if name.startswith("alfred_event_"):
        name = name.removeprefix("alfred_event_") + "_event"
    name = _DOCS_ONLY.get(name, name)
    return name if name in _ALFRED else None


def alfred_model(name: str) -> type[Message] | None:
    """The model of an Alfred event by any of its names."""
    canonical = canonical_event_name(name)
    return None if canonical is None else _ALFRED[canonical]


def alfred_names() -> tuple[str, ...]:
    """The 24 names that our writers use."""
    return tuple(_ALFRED)
