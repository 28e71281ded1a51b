"""What a worker's result says about a file, as Alfred's file events. Keys decide, not actions, so custom actions count too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from contracts import FileRef
from contracts.file_events import (
    FileCategoryCreate,
    FileCategoryDelete,
    FileChangeTag,
    FileExtractedDataCreate,
    FilePropertyCreate,
    FileUpdate,
)
from contracts.work import MAX_OUTPUTS, OutputFile
from services.job_orchestrator.core.decision_builder import Draft
from services.job_orchestrator.core.job import Lane

RESULT_KEYS = ("file", "tag", "fields", "properties", "outputs")
"""`file`: better facts of the file · `tag`: {name, confidence} · `fields`: extracted data · `properties`: name → value · `outputs`: files
that were made, as `OutputFile`."""

MAX_RESULTS_BYTES = 400_000
"""Results of a lane's steps together: they travel in its next task."""


def apply_result(draft: Draft, lane: Lane, step: str, result: Mapping[str, Any]) -> Lane:
    """Keep a step's result on the lane and publish what it says. Values of the wrong type raise `ValueError`."""
    results = {**lane.results, step: result}
    size = len(to_json(results))
    if size > MAX_RESULTS_BYTES:
        raise ValueError(
            f"results of all steps would take {size} bytes, the limit is {MAX_RESULTS_BYTES}: store large ones as objects"
        )
    _check_outputs(draft, result.get("outputs"))
    lane = draft.put(lane, results=results)
    if lane.file is None:
        return lane
    if isinstance(result.get("file"), Mapping):
        lane = _file_facts(draft, lane, result["file"])
    if isinstance(result.get("properties"), Mapping):
        for name, value in sorted(result["properties"].items()):
            draft.file_event(
                FilePropertyCreate, lane, name, file_log_id=lane.id, file_id=lane.id, name=str(name), value=str(value)
            )
    if "tag" in result:
        lane = _tagged(draft, lane, result["tag"])
    if isinstance(result.get("fields"), Mapping) and result["fields"]:
        content = json.dumps(result["fields"], ensure_ascii=False, sort_keys=True)
        draft.file_event(FileExtractedDataCreate, lane, file_log_id=lane.id, file_id=lane.id, content=content, provider=step)
    return lane


def _check_outputs(draft: Draft, outputs: Any) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, list) or len(outputs) > MAX_OUTPUTS:
        raise ValueError(f"outputs: a list of at most {MAX_OUTPUTS} files is expected")
    for entry in outputs:
        if not OutputFile.model_validate(entry).blob_name.startswith(f"{draft.job.owner.tenant_id}/"):
            raise ValueError("outputs: an object of the job's tenant is expected")


def _file_facts(draft: Draft, lane: Lane, facts: Mapping[str, Any]) -> Lane:
    assert lane.file is not None
    known = {k: v for k, v in facts.items() if k in FileRef.model_fields and k not in ("file_id", "metadata")}
    file = FileRef(**{**lane.file.model_dump(), **known})
    lane = draft.put(lane, file=file)
    draft.file_event(
        FileUpdate, lane, file_id=lane.id, file_log_id=lane.id, file_name=file.file_name,
        file_name_without_extension=file.file_name.rpartition(".")[0] or file.file_name, blob_name=file.blob_name or "",
        blob_url=file.blob_url, content_type=file.content_type, file_size=file.size, md5_hash=file.md5,
        page_count=facts.get("page_count"),
    )  # fmt: skip
    return lane


def _tagged(draft: Draft, lane: Lane, tag: Any) -> Lane:
    if not isinstance(tag, Mapping) or not tag.get("name"):
        draft.file_event(
            FileCategoryDelete, lane, file_log_id=lane.id, file_id=lane.id, description="no tag fits", confidence=0.0
        )
        return lane
    name, confidence = str(tag["name"]), min(1.0, max(0.0, float(tag.get("confidence", 0))))
    draft.file_event(FileCategoryCreate, lane, file_log_id=lane.id, file_id=lane.id, description=name, confidence=confidence)
    draft.file_event(
        FileChangeTag, lane, file_id=lane.id, previous_tag_id=lane.tag, previous_tag_name=lane.tag,
        proposed_tag_id=name, classification_score=confidence, new_tag_id=name, new_tag_name=name,
    )  # fmt: skip
    return draft.put(lane, tag=name, score=confidence)
