"""Alfred's three naming schemes for events, mapped to one (reference/vendor-apis.md §1.1)."""

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
    """The name that our writers use, e.g. `job_create_event`. None when no event has the given name.

    Accepts the spellings of the current SDK (`job_create_event`), of the documents (`file_added_to_job_event`) and of the
    Node SDK (`alfred_event_job_create`).
    """
    name = name.strip().lower()
    if name.startswith("alfred_event_"):
        name = name.removeprefix("alfred_event_") + "_event"
    name = _DOCS_ONLY.get(name, name)
    return name if name in _ALFRED else None


def alfred_model(name: str) -> type[Message] | None:
    """The model of an Alfred event by any of its names, or None."""
    canonical = canonical_event_name(name)
    return None if canonical is None else _ALFRED[canonical]


def alfred_names() -> tuple[str, ...]:
    """The 24 names that our writers use."""
    return tuple(_ALFRED)
