"""Answers of our own API about dead letters and approvals."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from services.ingest.http.answers.records import TIME


class LetterAct(BaseModel):
    """What was done with a letter."""

    verb: str = Field(examples=["redriven"])
    at: str = Field(examples=[TIME])
    by: str
    reason: str


class Letter(BaseModel):
    """A dead letter: a record that a consumer gave up."""

    id: str = Field(examples=["stage.reports.job_orchestrator.dlq:0:7"])
    topic: str
    source: str | None = Field(description="The topic that the record came from.")
    source_partition: str | None
    source_offset: str | None
    group: str | None
    service: str | None
    code: str | None
    reason: str | None
    type: str | None
    job_id: str | None
    tenant_id: str | None
    bytes: int
    sealed: bool
    at: str = Field(examples=[TIME])
    age_s: float
    state: str = Field(examples=["open"], description="`open`, `redriven`, `edited` or `discarded`.")
    act: LetterAct | None


class WholeLetter(Letter):
    """A letter with its key, headers and body; bytes that are no text are in `body_base64`."""

    key: str | None
    headers: list[dict[str, Any]]
    body: Any = None
    body_base64: str | None = None


class LetterCount(BaseModel):
    """How many letters have one topic, group, code and state."""

    topic: str
    source: str | None
    group: str | None
    code: str | None
    state: str
    count: int
    oldest: str
    newest: str


class Letters(BaseModel):
    """Letters that fit, newest first."""

    result: list[Letter]
    summary: list[LetterCount]
    total: int = Field(description="How many fit, also beyond `limit`.")


class LetterActed(BaseModel):
    """A letter after an act."""

    id: str
    state: str
    act: LetterAct | None
    source: str | None
    repeated: bool = Field(description="Somebody acted on it before, and it was left alone.")


class LettersActed(BaseModel):
    """What became of letters that fit."""

    done: list[str]
    failed: list[dict[str, str]]
    left: bool = Field(description="More may fit: repeat the call.")


class Approval(BaseModel):
    """A step that waits for a person."""

    job_id: str
    workflow: str | None
    job_key: str | None
    as_of: str = Field(examples=[TIME])
    step: str
    file_id: str | None
    since: str | None = Field(examples=[TIME])
    due_at: str | None = Field(description="When the wait ends by itself.")


class Approvals(BaseModel):
    """Steps that wait for a person, the longest wait first."""

    result: list[Approval]
    unknown: list[str] = Field(description="Jobs about which the orchestrator did not answer.")
    more: bool = Field(description="Further jobs may wait: raise `limit`.")
