"""What a search for jobs asks for: the filter as callers write it, and the query that the store runs. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.ingest.core.fields import Id, Measured, Moment, Stage
from services.ingest.core.job_view import meta_term

Sort = Literal["-created_at", "created_at", "stage_since"]


class BadFilter(ValueError):
    """The filter cannot be run; `field` names the field at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class JobQuery:
    """A search over one tenant's jobs. Times in Unix seconds. `terms` as in `job_term`, e.g. `tag:invoice`."""

    tenant: str
    stages: tuple[str, ...] = ()
    workflow: str | None = None
    terms: tuple[str, ...] = ()
    words: str | None = None
    """Words that one of the job's files must contain."""
    created_after: float | None = None
    created_before: float | None = None
    since_before: float | None = None
    """The job has been in its stage since before this time."""
    sort: Sort = "-created_at"
    after: tuple[float, str] | None = None
    """Sort value and id of the previous page's last row."""
    workflow_like: str | None = None
    """Pattern of SQL's LIKE for `name@version`, in which `!` escapes."""
    ids: tuple[str, str] | None = None
    """The least and the greatest id."""


class Filter(BaseModel):
    """Conditions of a search. A job must meet all that are given."""

    model_config = ConfigDict(extra="forbid")

    stage: list[Stage] = Field(default_factory=list, max_length=16)
    id: str | None = Field(default=None, pattern="^[0-9A-Fa-f-]{1,36}$", description="Beginning of the job's id")
    workflow: str | None = Field(
        default=None, max_length=200, description="`name@version`; `name` for all its versions; or a pattern with `*` and `?`"
    )
    tag: str | None = Field(default=None, max_length=200)
    file_name: str | None = Field(default=None, max_length=255, description="Name of one of its files; case is ignored")
    error_code: str | None = Field(default=None, max_length=100)
    job_key: str | None = Field(default=None, max_length=200)
    parent_job_id: Id | None = None
    rerun_of: Id | None = None
    metadata: list[str] = Field(default_factory=list, max_length=10, description="`key=value`, on the first level")
    text: str | None = Field(default=None, max_length=1000, description="Words in one of its files")
    created_after: Moment | None = None
    created_before: Moment | None = None
    in_stage_for_s: Measured | None = Field(default=None, ge=0, description="Least number of seconds in its present stage")
    sort: Sort = "-created_at"

    def query(self, tenant: str, now: float, cursor: str | None = None) -> JobQuery:
        """The query for `tenant` at `now` (Unix seconds), from `cursor` on. Raises `BadFilter`."""
        if self.sort == "stage_since" and len(self.stage) != 1:
            raise BadFilter("sort", "stage_since needs exactly one stage")
        try:
            after = decode_cursor(cursor) if cursor else None
        except ValueError as error:
            raise BadFilter("cursor", str(error)) from None
        workflow, like = _workflow(self.workflow)
        return JobQuery(
            tenant, tuple(self.stage), workflow, self._terms(), self.text, _unix(self.created_after),
            _unix(self.created_before), None if self.in_stage_for_s is None else now - self.in_stage_for_s, self.sort, after,
            like, _ids(self.id) if self.id else None,
        )  # fmt: skip

    def _terms(self) -> tuple[str, ...]:
        terms = [f"tag:{self.tag}"] if self.tag else []
        terms += [f"file:{self.file_name.lower()}"] if self.file_name else []
        terms += [f"error:{self.error_code}"] if self.error_code else []
        names = ("job_key", "parent_job_id", "rerun_of")
        terms += [f"{name}:{getattr(self, name)}" for name in names if getattr(self, name)]
        for pair in self.metadata:
            key, equals, value = pair.partition("=")
            if not equals:
                raise BadFilter("metadata", "key=value is expected")
            terms.append(meta_term(key, value))
        return tuple(terms)


def _workflow(wanted: str | None) -> tuple[str | None, str | None]:
    """The one `name@version` that is wanted, or a pattern of several: of all versions where none is named."""
    if not wanted or ("@" in wanted and not set("*?") & set(wanted)):
        return wanted or None, None
    escaped = re.sub("([!%_])", r"!\1", wanted).replace("*", "%").replace("?", "_")
    return None, escaped if "@" in wanted else f"{escaped}@%"


def _ids(beginning: str) -> tuple[str, str]:
    """The least and the greatest UUID that begin so. Both have the length of an id, so every collation orders them alike."""
    low, high = ("-".join(c * n for n in (8, 4, 4, 4, 12)) for c in "0f")
    start = beginning.lower()
    return start + low[len(start) :], start + high[len(start) :]


def _unix(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None


def encode_cursor(value: float, job_id: str) -> str:
    """Sort value and id of a page's last row as opaque text."""
    return base64.urlsafe_b64encode(json.dumps([value, job_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Inverse of `encode_cursor`. Raises `ValueError`."""
    try:
        value, job_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(value), str(job_id)
    except (ValueError, TypeError, binascii.Error) as error:
        raise ValueError("this service did not issue it") from error
