"""Job headers and lanes as JSON text and back."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import Any

from contracts import FileRef, FileStatus, JobRequest, JobStage, Tenancy
from services.job_orchestrator.core.job import Job, Lane, LaneState
from services.job_orchestrator.core.workflow import Workflow

_COUNTERS = (
    "frontier", "sequence", "total", "arrived", "done", "failed", "invalid", "cancelled", "retries", "exceeded_retries",
    "session_id",
)  # fmt: skip
_LANE_PLAIN = tuple(f.name for f in fields(Lane) if f.name not in ("id", "file", "state", "status", "results"))


def job_to_text(job: Job) -> str:
    """Everything of the header except the workflow's text, which is stored once per version."""
    body: dict[str, Any] = {name: getattr(job, name) for name in _COUNTERS}
    body["stage"] = job.stage.value
    body["owner"] = job.owner.model_dump(mode="json")
    body["request"] = job.request.model_dump(mode="json", exclude_none=True)
    body["created_at"] = job.created_at.isoformat()
    body["updated_at"] = job.updated_at.isoformat()
    body["errors"] = job.errors
    return json.dumps(body, separators=(",", ":"))


def job_from_text(job_id: str, text: str, workflow: Workflow, lanes: dict[str, Lane]) -> Job:
    """Inverse of `job_to_text`."""
    body = json.loads(text)
    return Job(
        id=job_id, owner=Tenancy.model_construct(**body["owner"]), request=JobRequest.model_validate(body["request"]),
        workflow=workflow, created_at=datetime.fromisoformat(body["created_at"]),
        updated_at=datetime.fromisoformat(body["updated_at"]), stage=JobStage(body["stage"]), lanes=lanes,
        errors=tuple(body["errors"]), **{name: body[name] for name in _COUNTERS},
    )  # fmt: skip


def lane_to_text(lane: Lane) -> str:
    """A lane as JSON text."""
    body: dict[str, Any] = {name: getattr(lane, name) for name in _LANE_PLAIN}
    body["state"] = lane.state.value
    body["status"] = lane.status.value
    body["results"] = lane.results
    body["file"] = lane.file.model_dump(mode="json", exclude_none=True) if lane.file else None
    return json.dumps(body, separators=(",", ":"))


def lane_from_text(lane_id: str, text: str) -> Lane:
    """Inverse of `lane_to_text`."""
    body = json.loads(text)
    return Lane(
        id=lane_id, file=FileRef.model_validate(body["file"]) if body["file"] else None, state=LaneState(body["state"]),
        status=FileStatus(body["status"]), results=body["results"], **{name: body[name] for name in _LANE_PLAIN},
    )  # fmt: skip
