"""Job headers and branches as JSON text and back."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from pydantic_core import from_json, to_json

from contracts import FileRef, FileStatus, JobRequest, JobStage, ParentTask, Tenancy
from services.job_orchestrator.core.job import Branch, BranchState, Job
from services.job_orchestrator.core.workflow import Workflow

_COUNTERS = (
    "frontier", "sequence", "total", "arrived", "done", "failed", "invalid", "cancelled", "retries", "exceeded_retries",
    "session_id",
)  # fmt: skip
_RARE: dict[str, Any] = {"paused_by": None, "paused_reason": "", "paused_at": None, "rerun_of": None, "reruns": ()}
"""Fields that few jobs use, with their defaults; written only where they differ."""
_BRANCH_RARE = ("entered_at", "since", "returned", "revision", "recycled_at", "session_id", "former_jobs")
_BRANCH_PLAIN = tuple(f.name for f in fields(Branch) if f.name not in ("id", "file", "state", "status", "results", *_BRANCH_RARE))


MOST = 4096
"""Requests kept, by their texts."""
LARGEST = 4000
"""Characters of a request's text; longer ones are not kept, so the memory has a bound."""
_counters = attrgetter(*_COUNTERS)
_branch_plain = attrgetter(*_BRANCH_PLAIN)
_rare = attrgetter(*_RARE)
_RARE_UNSET = tuple(_RARE.values())


@lru_cache(maxsize=10_000)
def _owner(text: str) -> Tenancy:
    return Tenancy.model_validate_json(text)


@lru_cache(maxsize=MOST)
def _short_request(text: str) -> JobRequest:
    # Frozen, and the same text for every load of a job: parsed once.
    return JobRequest.read(text)


def _request(text: str) -> JobRequest:
    return _short_request(text) if len(text) <= LARGEST else JobRequest.read(text)


def job_to_text(job: Job) -> str:
    """Everything of the header except the workflow's text, which is stored once per version."""
    body: dict[str, Any] = dict(zip(_COUNTERS, _counters(job), strict=True))
    body["stage"] = str(job.stage)
    body["owner"] = job.owner.to_json().decode()
    body["request"] = job.request.to_json().decode()
    body["created_at"] = job.created_at.isoformat()
    body["updated_at"] = job.updated_at.isoformat()
    body["errors"] = job.errors
    if _rare(job) != _RARE_UNSET:
        body |= {name: getattr(job, name) for name, default in _RARE.items() if getattr(job, name) != default}
    if job.ending is not None:
        body["ending"] = job.ending.value
    if job.parent is not None:
        body["parent"] = job.parent.model_dump()
    return to_json(body).decode()


def job_from_text(job_id: str, text: str, workflow: Workflow, branches: dict[str, Branch]) -> Job:
    """Inverse of `job_to_text`."""
    body = from_json(text)
    return Job(
        id=job_id, owner=_owner(body["owner"]), request=_request(body["request"]),
        workflow=workflow, created_at=datetime.fromisoformat(body["created_at"]),
        updated_at=datetime.fromisoformat(body["updated_at"]), stage=JobStage(body["stage"]), branches=branches,
        errors=tuple(body["errors"]), ending=JobStage(body["ending"]) if "ending" in body else None,
        parent=ParentTask(**body["parent"]) if "parent" in body else None,
        **{name: body[name] for name in _COUNTERS}, **{name: body[name] for name in _RARE if name in body and name != "reruns"}, reruns=tuple(body.get("reruns", ())),
    )  # fmt: skip


def branch_to_text(branch: Branch) -> str:
    """A branch as JSON text."""
    body: dict[str, Any] = dict(zip(_BRANCH_PLAIN, _branch_plain(branch), strict=True))
    body |= {name: value for name in _BRANCH_RARE if (value := getattr(branch, name)) is not None}
    body["state"] = str(branch.state)
    body["status"] = str(branch.status)
    body["results"] = branch.results
    file = branch.file.to_json().decode() if branch.file else "null"
    return f'{to_json(body).decode()[:-1]},"file":{file}}}'


def branch_from_text(branch_id: str, text: str) -> Branch:
    """Inverse of `branch_to_text`."""
    body = from_json(text)
    return Branch(
        id=branch_id, file=FileRef.model_validate(body["file"]) if body["file"] else None, state=BranchState(body["state"]),
        status=FileStatus(body["status"]), results=body["results"], **{name: body[name] for name in _BRANCH_PLAIN},
        **{name: body[name] for name in _BRANCH_RARE if name in body},
    )  # fmt: skip
