"""Metadata of a job that each file of its session gets (`propagate_metadata` of Alfred's `job/create`). Pure."""

from __future__ import annotations

from contracts import CreateJob, FileRef, SessionClosed
from contracts.loose import check_metadata


def with_shared_metadata(request: SessionClosed | CreateJob, file: FileRef) -> FileRef:
    """The file of `request` with the metadata that each file gets. Members that the file has already win.

    The file stays as it is when both together would be too large. Other producers set the metadata of their files themselves.
    """
    shared = request.job.propagate_metadata if isinstance(request, SessionClosed) else None
    if not shared:
        return file
    if not file.metadata:
        return file.model_copy(update={"metadata": shared})
    if not isinstance(shared, dict) or not isinstance(file.metadata, dict):
        return file
    both = {**shared, **file.metadata}
    try:
        check_metadata(both)
    except ValueError:
        return file
    return file.model_copy(update={"metadata": both})
