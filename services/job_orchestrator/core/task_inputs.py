"""What a step of the whole job receives: the files that are still in, and what earlier steps made of them."""

from __future__ import annotations

from collections.abc import Mapping

from contracts import FileRef, derived
from contracts.work import MAX_FILES, TaskFile
from services.job_orchestrator.core.condition import ConditionFailed
from services.job_orchestrator.core.job import Branch, BranchState, Job, NeedsAllBranches, outputs_of


def files_of(job: Job, branches: Mapping[str, Branch]) -> tuple[TaskFile, ...]:
    """All files that are still in, in upload order. Raises `NeedsAllBranches`, and `ConditionFailed` above `MAX_FILES`."""
    listed = [branch for branch in branches.values() if branch.file is not None]
    if len(listed) < job.total:
        raise NeedsAllBranches
    live = [branch for branch in listed if branch.state is BranchState.DONE or not branch.ended]
    if len(live) > MAX_FILES:
        raise ConditionFailed(f"a step that asks for all files takes at most {MAX_FILES}, these are {len(live)}")
    return tuple(TaskFile.trusted(file=branch.file, outputs=outputs_of(branch) or ()) for branch in live)


def made_of(job: Job, branches: Mapping[str, Branch], branch: Branch) -> tuple[FileRef, ...]:
    """The files that the branch's steps made, or else those of the job's files, as files for a child job. Raises as `files_of`."""
    made = outputs_of(branch)
    if made is None:
        made = tuple(output for entry in files_of(job, branches) for output in entry.outputs)
    return tuple(
        FileRef(
            file_id=derived(branch.lease, "output", n), file_name=o.file_name, content_type=o.content_type, size=o.size, sha256=o.sha256,
            blob_name=o.blob_name,
        )
        for n, o in enumerate(made)
    )  # fmt: skip
