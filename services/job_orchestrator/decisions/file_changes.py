"""Commands about a file of a job: decided on one job, or on two for a move, and answered."""

from __future__ import annotations

import logging

from contracts import (
    DeleteFileProperty,
    DeleteFileValue,
    EraseFile,
    FileCommand,
    Message,
    MoveFile,
    RecycleFile,
    RemoveFileTag,
    RestoreFile,
    SetFileValue,
)
from services.job_orchestrator.core.decision_builder import unlimited
from services.job_orchestrator.core.file_acts import Arrival, change_file
from services.job_orchestrator.core.job import Decision
from services.job_orchestrator.decisions.job_batch import JobBatch
from services.job_orchestrator.decisions.replies import answer
from shared.telemetry.logs import log_fields

log = logging.getLogger(__name__)
FILE_VERBS: dict[type[Message], str] = {
    SetFileValue: "file.set_value", DeleteFileValue: "file.delete_value", DeleteFileProperty: "file.delete_property",
    RemoveFileTag: "file.remove_tag", RecycleFile: "file.recycle", RestoreFile: "file.restore", MoveFile: "file.move",
    EraseFile: "file.erase",
}  # fmt: skip
"""Commands about a file, with the word that their answers carry."""


def decide_file_command(jobs: JobBatch, command: FileCommand, trace: str | None) -> None:
    """Decide a command about a file, and answer it. The answer names the file, and what was changed, without its value."""
    decision = _move(jobs, command, trace) if isinstance(command, MoveFile) else jobs.decide(command.job_id, command, trace)
    branch = decision.job.branches.get(command.file_id) if decision.job is not None and decision.refused is None else None
    changed = {"file_id": command.file_id, "revision": branch.revision if branch is not None else None}
    verb = FILE_VERBS[type(command)]
    done = " ".join(["file", command.file_id, *[str(getattr(command, n)) for n in ("name", "to_job_id") if hasattr(command, n)]])
    message = done if decision.refused is None else decision.why
    job = None if isinstance(command, MoveFile) else decision.job
    answer(jobs.unit, command, verb, decision.refused, trace, job, message=message, **changed)
    facts = {"by": command.owner.user_name, "file_id": command.file_id, "refused": decision.refused}
    log.info("command %s", verb, extra=log_fields(trace, command.job_id, **facts))


def _move(jobs: JobBatch, command: MoveFile, trace: str | None) -> Decision:
    """The decision on the job that gets the file; a refusal of either job changes neither."""
    source = jobs.loaded.get(command.job_id)
    if source is None:
        return Decision(None, refused="unknown job")
    leaving = change_file(source, command, jobs.now, unlimited)
    if leaving.refused is not None:
        return leaving
    arrival = Arrival(command, source, source.branches[command.file_id])
    arrived = jobs.decide(command.to_job_id, arrival, trace)
    if arrived.refused is None:
        jobs.decide(command.job_id, command, trace)
    return arrived if arrived.refused != "unknown job" else Decision(None, refused="unknown target")
