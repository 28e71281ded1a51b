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
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.job import Branch

RESULT_KEYS = ("file", "tag", "fields", "properties", "outputs")
"""`file`: better facts of the file · `tag`: {name, confidence} · `fields`: extracted data · `properties`: name → value · `outputs`: files
that were made, as `OutputFile`."""

MAX_RESULTS_BYTES = 400_000
"""Results of a branch's steps together: they travel in its next task."""


def apply_result(builder: DecisionBuilder, branch: Branch, step: str, result: Mapping[str, Any]) -> Branch:
    """Keep a step's result on the branch and publish what it says. Values of the wrong type raise `ValueError`."""
    results = {**branch.results, step: result}
    size = len(to_json(results))
    if size > MAX_RESULTS_BYTES:
        raise ValueError(
            f"results of all steps would take {size} bytes, the limit is {MAX_RESULTS_BYTES}: store large ones as objects"
        )
    _check_outputs(builder, result.get("outputs"))
    branch = builder.put(branch, results=results)
    if branch.file is None:
        return branch
    if isinstance(result.get("file"), Mapping):
        branch = _file_facts(builder, branch, result["file"])
    if isinstance(result.get("properties"), Mapping):
        for name, value in sorted(result["properties"].items()):
            builder.file_event(
                FilePropertyCreate, branch, name, file_log_id=branch.id, file_id=branch.id, name=str(name), value=str(value)
            )
    if "tag" in result:
        branch = _tagged(builder, branch, result["tag"])
    if isinstance(result.get("fields"), Mapping) and result["fields"]:
        content = json.dumps(result["fields"], ensure_ascii=False, sort_keys=True)
        builder.file_event(
            FileExtractedDataCreate, branch, file_log_id=branch.id, file_id=branch.id, content=content, provider=step
        )
    return branch


def _check_outputs(builder: DecisionBuilder, outputs: Any) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, list) or len(outputs) > MAX_OUTPUTS:
        raise ValueError(f"outputs: a list of at most {MAX_OUTPUTS} files is expected")
    for entry in outputs:
        if not OutputFile.model_validate(entry).blob_name.startswith(f"{builder.job.owner.tenant_id}/"):
            raise ValueError("outputs: an object of the job's tenant is expected")


def _file_facts(builder: DecisionBuilder, branch: Branch, facts: Mapping[str, Any]) -> Branch:
    assert branch.file is not None
    known = {k: v for k, v in facts.items() if k in FileRef.model_fields and k not in ("file_id", "metadata")}
    file = FileRef(**{**branch.file.model_dump(), **known})
    branch = builder.put(branch, file=file)
    builder.file_event(
        FileUpdate, branch, file_id=branch.id, file_log_id=branch.id, file_name=file.file_name,
        file_name_without_extension=file.file_name.rpartition(".")[0] or file.file_name, blob_name=file.blob_name or "",
        blob_url=file.blob_url, content_type=file.content_type, file_size=file.size, md5_hash=file.md5,
        page_count=facts.get("page_count"),
    )  # fmt: skip
    return branch


def _tagged(builder: DecisionBuilder, branch: Branch, tag: Any) -> Branch:
    if not isinstance(tag, Mapping) or not tag.get("name"):
        builder.file_event(
            FileCategoryDelete, branch, file_log_id=branch.id, file_id=branch.id, description="no tag fits", confidence=0.0
        )
        return branch
    name, confidence = str(tag["name"]), min(1.0, max(0.0, float(tag.get("confidence", 0))))
    builder.file_event(
        FileCategoryCreate, branch, file_log_id=branch.id, file_id=branch.id, description=name, confidence=confidence
    )
    builder.file_event(
        FileChangeTag, branch, file_id=branch.id, previous_tag_id=branch.tag, previous_tag_name=branch.tag,
        proposed_tag_id=name, classification_score=confidence, new_tag_id=name, new_tag_name=name,
    )  # fmt: skip
    return builder.put(branch, tag=name, score=confidence)
