"""Turns a step's result into file events. The result's keys decide, not the action, so custom actions count too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from contracts import FileRef
from contracts.actions import ACTIONS
from contracts.file_events import (
    FileCategoryCreate,
    FileCategoryDelete,
    FileChangeTag,
    FileExtractedDataCreate,
    FilePropertyCreate,
    FileUpdate,
)
from contracts.ownership import foreign_object
from contracts.work import MAX_OUTPUTS, OutputFile
from services.job_orchestrator.core.decision_builder import DecisionBuilder
from services.job_orchestrator.core.job import Branch

RESULT_KEYS = ("file", "tag", "fields", "properties", "outputs")
"""`file`: corrected facts of the file · `tag`: {name, confidence} · `fields`: extracted data · `properties`: name → value · `outputs`:
files that the step made, each an `OutputFile`."""

FREE_KEYS = frozenset({"fields", "properties"})
"""Keys whose values have names of the document's own. Nothing in them names an object."""
MAX_RESULTS_BYTES = 400_000
"""Bytes of the results of a branch's steps together. They travel in its next task."""


def apply_result(builder: DecisionBuilder, branch: Branch, step: str, result: Mapping[str, Any]) -> Branch:
    """Keep a step's result on the branch and publish what it says about the file. Returns the changed branch.

    Raises `ValueError` or `TypeError` for a value of the wrong type, for an object of another tenant, and for results above
    `MAX_RESULTS_BYTES`. Of a built-in action's result, keys that the action does not have are dropped.
    """
    row = ACTIONS.get(builder.job.step_of(branch).action)
    if row is not None:
        result = {key: value for key, value in result.items() if key in row.results}
    results = {**branch.results, step: result}
    size = len(to_json(results))
    if size > MAX_RESULTS_BYTES:
        raise ValueError(
            f"results of all steps would take {size} bytes, the limit is {MAX_RESULTS_BYTES}: store large ones as objects"
        )
    _check_outputs(result.get("outputs"))
    _check_objects(builder, result)
    if branch.file is None:
        return builder.change_branch(branch, results=results)
    changes: dict[str, Any] = {"results": results}
    if isinstance(result.get("file"), Mapping):
        changes["file"] = _file_facts(builder, branch, branch.file, result["file"])
    if isinstance(result.get("properties"), Mapping):
        for name, value in sorted(result["properties"].items()):
            builder.file_event(
                FilePropertyCreate, branch, name, file_log_id=branch.id, file_id=branch.id, name=str(name), value=str(value)
            )
    if "tag" in result:
        changes |= _tagged(builder, branch, result["tag"])
    if isinstance(result.get("fields"), Mapping) and result["fields"]:
        content = json.dumps(result["fields"], ensure_ascii=False, sort_keys=True)
        builder.file_event(
            FileExtractedDataCreate, branch, file_log_id=branch.id, file_id=branch.id, content=content, provider=step
        )
    return builder.change_branch(branch, **changes)


def _check_objects(builder: DecisionBuilder, result: Mapping[str, Any]) -> None:
    named = {key: value for key, value in result.items() if key not in FREE_KEYS}
    at = foreign_object(builder.job.owner.tenant_id, named)
    if at is not None:
        raise ValueError(f"{at}: an object of the job's tenant is expected")


def _check_outputs(outputs: Any) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, list) or len(outputs) > MAX_OUTPUTS:
        raise ValueError(f"outputs: a list of at most {MAX_OUTPUTS} files is expected")
    for entry in outputs:
        OutputFile.model_validate(entry)


def _file_facts(builder: DecisionBuilder, branch: Branch, file: FileRef, facts: Mapping[str, Any]) -> FileRef:
    """The file with corrected facts. Its id and its user's metadata stay."""
    known = {k: v for k, v in facts.items() if k in FileRef.model_fields and k not in ("file_id", "metadata")}
    file = FileRef(**{**file.model_dump(), **known})
    builder.file_event(
        FileUpdate, branch, file_id=branch.id, file_log_id=branch.id, file_name=file.file_name,
        file_name_without_extension=file.file_name.rpartition(".")[0] or file.file_name, blob_name=file.blob_name or "",
        blob_url=file.blob_url, content_type=file.content_type, file_size=file.size, md5_hash=file.md5,
        page_count=facts.get("page_count"),
    )  # fmt: skip
    return file


def _tagged(builder: DecisionBuilder, branch: Branch, tag: Any) -> dict[str, Any]:
    """The branch's fields that a tag changes."""
    if not isinstance(tag, Mapping) or not tag.get("name"):
        builder.file_event(
            FileCategoryDelete, branch, file_log_id=branch.id, file_id=branch.id, description="no tag fits", confidence=0.0
        )
        return {}
    name, confidence = str(tag["name"]), min(1.0, max(0.0, float(tag.get("confidence", 0))))
    builder.file_event(
        FileCategoryCreate, branch, file_log_id=branch.id, file_id=branch.id, description=name, confidence=confidence
    )
    builder.file_event(
        FileChangeTag, branch, file_id=branch.id, previous_tag_id=branch.tag, previous_tag_name=branch.tag,
        proposed_tag_id=name, classification_score=confidence, new_tag_id=name, new_tag_name=name,
    )  # fmt: skip
    return {"tag": name, "score": confidence}
