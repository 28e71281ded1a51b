"""What people do to a file: correct and delete values, take away a tag or a property, recycle, restore, move, erase. Pure.

Values, properties and the tag may change while the job runs, unless a step of the file does. The other acts need a job that has ended.
The bytes and the results of a file go with it to another job, so that the erasure of that job deletes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from contracts import (
    DeleteFileProperty,
    DeleteFileValue,
    EraseFile,
    EraseJob,
    FileChange,
    FileErased,
    FileStatus,
    MoveFile,
    RecycleFile,
    RemoveFileTag,
    RestoreFile,
    SetFileValue,
    derived,
)
from contracts.file_events import (
    RECYCLE_BIN,
    FileAddToJob,
    FileExtractedDataCreate,
    FileExtractedDataDelete,
    FileMove,
    FileMoveToPending,
    FileMoveToRecycleBin,
    FilePropertyDelete,
    FileRemoveTag,
    job_directory,
)
from contracts.ownership import object_names, owns
from contracts.topics import JOB_ERASURES_TOPIC
from services.job_orchestrator.core.apply_result import FREE_KEYS, MAX_RESULTS_BYTES
from services.job_orchestrator.core.decision_builder import Credits, DecisionBuilder
from services.job_orchestrator.core.job import JOB_BRANCH, Branch, BranchState, Decision, Job, Output

BY_PEOPLE = "user"
"""Key of the results that people gave to a file without extracted values, and provider of corrected ones."""
MOST_JOBS = 100
"""Former jobs of a file that are remembered."""
_BUSY = frozenset({BranchState.READY, BranchState.QUEUED, BranchState.RUNNING, BranchState.BACKOFF})
_NEED_END = (RecycleFile, RestoreFile, MoveFile, EraseFile)
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that comes from another job: `branch` as `source` has it."""

    command: MoveFile
    source: Job
    branch: Branch


class _Refused(Exception):
    def __init__(self, reason: str, why: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.why = why


def change_file(job: Job, command: FileChange | MoveFile, now: datetime, credits: Credits) -> Decision:
    """The job after an act on one of its files, or the reason for a refusal. A `MoveFile` takes the file away; see `arrive_by_move`."""
    branch = job.branches.get(command.file_id)
    refused = _refusal(job, branch, command)
    if refused is not None or branch is None:
        return Decision(job, refused=refused)
    builder = DecisionBuilder(job, command.message_id, now)
    try:
        _ACTS[type(command)](builder, branch, command)
    except _Refused as error:
        return Decision(job, refused=error.reason, why=error.why)
    return builder.decision()


def _refusal(job: Job, branch: Branch | None, command: FileChange | MoveFile) -> str | None:
    if command.owner.tenant_id != job.owner.tenant_id:
        return "unknown job"
    if branch is None or branch.id == JOB_BRANCH:
        return "no such file"
    if isinstance(command, _NEED_END) and not job.ended:
        return "job has not ended"
    if branch.state in _BUSY:
        return "file is being processed"
    binned = branch.recycled_at is not None
    if binned and not isinstance(command, (RestoreFile, EraseFile)):
        return "file is recycled"
    needs_bin = isinstance(command, RestoreFile) or (isinstance(command, EraseFile) and command.recycled)
    return "file is not recycled" if needs_bin and not binned else None


# Values, properties and the tag.


def values_of(results: Results) -> tuple[str | None, Mapping[str, Any]]:
    """The extracted values of a file, and the step that gave them: those of the last step that gave any."""
    for step, result in reversed(list(results.items())):
        fields = result.get("fields")
        if isinstance(fields, Mapping) and fields:
            return step, fields
    return None, {}


def _set_value(builder: DecisionBuilder, branch: Branch, command: SetFileValue) -> None:
    step, values = values_of(branch.results)
    if command.name in values and values[command.name] == command.value:
        return
    new = {**values, command.name: command.value}
    target = step or BY_PEOPLE
    results = {**branch.results, target: {**branch.results.get(target, {}), "fields": new}}
    if (size := len(to_json(results))) > MAX_RESULTS_BYTES:
        raise _Refused("invalid value", f"value: the file's results would take {size} bytes, the limit is {MAX_RESULTS_BYTES}")
    branch, said = _changed(builder, branch, command, results=results)
    if command.name in values:
        _extracted(builder, FileExtractedDataDelete, branch, {command.name: values[command.name]}, step or BY_PEOPLE, said)
    _extracted(builder, FileExtractedDataCreate, branch, new, BY_PEOPLE, said)


def _delete_value(builder: DecisionBuilder, branch: Branch, command: DeleteFileValue) -> None:
    step, values = values_of(branch.results)
    if step is None or command.name not in values:
        raise _Refused("no such value", f"{command.name}: the file has no such value")
    # Values of earlier steps are not the file's any more. Without those of the last step, they would be again.
    gone = {command.name} if len(values) > 1 else None
    results = {name: _without(result, "fields", gone) for name, result in branch.results.items()}
    branch, said = _changed(builder, branch, command, results=results)
    _extracted(builder, FileExtractedDataDelete, branch, {command.name: values[command.name]}, step, said)


def _without(result: Mapping[str, Any], key: str, names: set[str] | None) -> Mapping[str, Any]:
    """A result without some entries of the object under `key`; without all of them where `names` is None."""
    entries = result.get(key)
    if not isinstance(entries, Mapping):
        return result
    return {**result, key: {n: value for n, value in entries.items() if names is not None and n not in names}}


def _extracted(builder: DecisionBuilder, model: Any, branch: Branch, values: Any, provider: str, said: dict[str, Any]) -> None:
    content = json.dumps(values, ensure_ascii=False, sort_keys=True)
    builder.file_event(model, branch, file_log_id=branch.id, file_id=branch.id, content=content, provider=provider, **said)


def _delete_property(builder: DecisionBuilder, branch: Branch, command: DeleteFileProperty) -> None:
    found = [r["properties"] for r in branch.results.values() if isinstance(r.get("properties"), Mapping)]
    values = [properties[command.name] for properties in found if command.name in properties]
    if not values:
        raise _Refused("no such property", f"{command.name}: the file has no such property")
    results = {name: _without(result, "properties", {command.name}) for name, result in branch.results.items()}
    branch, said = _changed(builder, branch, command, results=results)
    builder.file_event(
        FilePropertyDelete, branch, file_log_id=branch.id, file_id=branch.id, name=command.name, value=str(values[-1]), **said
    )


def _remove_tag(builder: DecisionBuilder, branch: Branch, command: RemoveFileTag) -> None:
    if branch.tag is None:
        raise _Refused("no tag", "the file has no tag")
    tag, score = branch.tag, branch.score
    results = {name: {k: v for k, v in result.items() if k != "tag"} for name, result in branch.results.items()}
    branch, said = _changed(builder, branch, command, results=results, tag=None, score=None)
    builder.file_event(
        FileRemoveTag, branch, file_id=branch.id, tag_being_removed_id=tag, tag_being_removed_name=tag, classification_score=score,
        **said,
    )  # fmt: skip


# Where the file is.


def directory_of(job: Job, branch: Branch) -> str:
    """The directory that a file is in."""
    if branch.recycled_at is not None:
        return RECYCLE_BIN
    return job_directory(job.id, pending=branch.status is FileStatus.PENDING)


def _recycle(builder: DecisionBuilder, branch: Branch, command: RecycleFile) -> None:
    before = directory_of(builder.job, branch)
    branch, said = _changed(builder, branch, command, recycled_at=builder.unix)
    _moved(builder, branch, before, said)
    builder.file_event(FileMoveToRecycleBin, branch, **_names(branch), **said)


def _restore(builder: DecisionBuilder, branch: Branch, command: RestoreFile) -> None:
    branch, said = _changed(builder, branch, command, recycled_at=None)
    _moved(builder, branch, RECYCLE_BIN, said)


def _moved(builder: DecisionBuilder, branch: Branch, before: str, said: dict[str, Any], job_id: str | None = None) -> None:
    places = {"previous_file_directory": before, "new_file_directory": directory_of(builder.job, branch)}
    builder.file_event(FileMove, branch, **_names(branch), **places, previous_job_id=job_id, **said)


def _names(branch: Branch) -> dict[str, Any]:
    assert branch.file is not None
    file = branch.file
    return {
        "file_id": branch.id, "file_name": file.file_name, "blob_name": file.blob_name or "", "blob_url": file.blob_url,
        "file_name_without_extension": file.file_name.rpartition(".")[0] or file.file_name,
    }  # fmt: skip


def _leave(builder: DecisionBuilder, branch: Branch, command: MoveFile | EraseFile) -> None:
    """Take the file out of its job. The job's counters stay as its events say: they count the files that it ran with."""
    del builder.branches[branch.id]


def arrive_by_move(job: Job, event: Arrival, now: datetime, credits: Credits) -> Decision:
    """The job with a file that comes from another one. All events of the move are this job's: its partition keeps them in order."""
    refused = _arrival_refused(job, event)
    if refused is not None:
        return Decision(job, refused=refused)
    builder = DecisionBuilder(job, event.command.message_id, now)
    old, file = event.branch, event.branch.file
    assert file is not None
    branch = Branch(
        old.id, file, status=FileStatus.PENDING, results=old.results, revision=old.revision,
        session_id=old.session_id or event.source.session_id,
        former_jobs=(*(old.former_jobs or ()), event.source.id)[-MOST_JOBS:],
    )  # fmt: skip
    branch, said = _changed(builder, branch, event.command)
    _moved(builder, branch, directory_of(event.source, old), said, event.source.id)
    builder.file_event(FileMoveToPending, branch, **_names(branch), **said)
    builder.file_event(
        FileAddToJob, branch, file_id=branch.id, file_name=file.file_name, file_size=file.size, content_type=file.content_type,
        blob_name=file.blob_name, md5_hash=file.md5, metadata=file.metadata,
    )  # fmt: skip
    return builder.decision()


def _arrival_refused(job: Job, event: Arrival) -> str | None:
    if event.command.owner.tenant_id != job.owner.tenant_id:
        return "unknown target"
    if event.branch.id in job.branches:
        return "target has the file"
    return None if job.ended else "target has not ended"


def _erase(builder: DecisionBuilder, branch: Branch, command: EraseFile) -> None:
    builder.outputs.append(Output(JOB_ERASURES_TOPIC.name, file_erased(builder.job, branch, command, builder.now)))
    _leave(builder, branch, command)


def file_erased(
    job: Job, branch: Branch, command: EraseFile | EraseJob, now: datetime, kept: frozenset[str] = frozenset()
) -> FileErased:
    """The announcement that a file of a job is erased, alone or with the job. Objects in `kept` stay."""
    return FileErased(
        event_id=derived(command.message_id, FileErased.TYPE, branch.id), job_id=job.id, file_id=branch.id,
        tenant_id=job.owner.tenant_id, occurred_at=now, session_id=branch.session_id or job.session_id,
        former_job_ids=tuple(branch.former_jobs or ()), by=command.owner.user_name, reason=command.reason,
        blobs=tuple(sorted({name for name in objects_of(branch) if owns(job.owner.tenant_id, name)} - kept)),
    )  # fmt: skip


def objects_of(branch: Branch) -> Iterator[str]:
    """Names of the objects that hold a file, and of those that its steps stored."""
    if branch.file is not None and branch.file.blob_name:
        yield branch.file.blob_name
    for result in branch.results.values():
        yield from object_names({key: value for key, value in result.items() if key not in FREE_KEYS})


def _changed(
    builder: DecisionBuilder, branch: Branch, command: FileChange | MoveFile, **fields: Any
) -> tuple[Branch, dict[str, Any]]:
    """The branch after a change by people, and what its events say about the change."""
    revision = (branch.revision or 0) + 1
    said = {"revision": revision, "by": command.owner.user_name or None, "reason": command.reason or None}
    return builder.change_branch(branch, revision=revision, **fields), said


_ACTS: dict[type, Callable[[DecisionBuilder, Branch, Any], None]] = {
    SetFileValue: _set_value, DeleteFileValue: _delete_value, DeleteFileProperty: _delete_property, RemoveFileTag: _remove_tag,
    RecycleFile: _recycle, RestoreFile: _restore, MoveFile: _leave, EraseFile: _erase,
}  # fmt: skip
