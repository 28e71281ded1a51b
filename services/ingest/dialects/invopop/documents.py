"""What an entry says about its document: schemas, digest, version; and how a request changes the document. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from services.ingest.core.json_patch import BadPatch, merged, patched

Record = dict[str, Any]
JSON, MERGE_PATCH, PATCH = "application/json", "application/merge-patch+json", "application/json-patch+json"
FACTS = ("env_schema", "doc_schema", "digest", "signed", "version", "versions")


def facts(data: Any, at: str) -> Record:
    """The fields of an entry that follow from its document, stored at `at`. A GOBL envelope has a schema beside its document's, and its own
    digest and signatures."""
    if not isinstance(data, Mapping):
        return {"signed": False, "versions": []}
    envelope = isinstance(data.get("doc"), Mapping)
    head = data.get("head") if envelope else None
    own = _own_hash(data)
    version, signed = own[:10], envelope and bool(data.get("sigs"))
    return {
        **_schemas(data), "digest": _envelope_digest(head) or {"alg": "sha256", "val": own}, "signed": signed,
        "version": version, "versions": [{"version": version, "at": at, "signed": signed}],
    }  # fmt: skip


def header_tags(data: Any) -> list[str]:
    """The tags in the header of an envelope."""
    head = data.get("head") if isinstance(data, Mapping) else None
    found = head.get("tags") if isinstance(head, Mapping) else None
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def shown_entry(entry: Mapping[str, Any]) -> Record:
    """An entry as answers show it. What has no value is left out: the vendor's clients know text, not null."""
    made = {name: value for name, value in entry.items() if name != "states"}
    if not isinstance(made.get("version"), str):
        # Entries of releases before 0.4.0 had a number for their version, and the envelope's schema for their document's.
        digest = made.get("digest") or {}
        version = str(digest.get("val") or "")[:10] or None
        listed = [{"version": version, "at": made.get("created_at"), "signed": False}] if version else []
        made |= {"env_schema": None, "doc_schema": None, **_schemas(made.get("data")), "version": version, "versions": listed}
    return {name: value for name, value in made.items() if value is not None}


def changed(old: Any, content_type: str | None, data: Any) -> Record:
    """The new document: `data`, or `old` after the patch in `data`. Raises `BadPatch`."""
    kind = (content_type or JSON).partition(";")[0].strip().lower()
    if kind == PATCH:
        made = patched(old if old is not None else {}, data)
    elif kind == MERGE_PATCH:
        made = merged(old, data)
    elif kind == JSON:
        made = data
    else:
        raise BadPatch(f"content_type: {JSON}, {MERGE_PATCH} or {PATCH} is expected")
    if not isinstance(made, dict):
        raise BadPatch("an object is expected")
    return made


def _schemas(data: Any) -> Record:
    if not isinstance(data, Mapping):
        return {}
    inner = data.get("doc")
    found = {"doc_schema": _text(data.get("$schema"))}
    if isinstance(inner, Mapping):
        found = {"env_schema": found["doc_schema"], "doc_schema": _text(inner.get("$schema"))}
    return {name: value for name, value in found.items() if value is not None}


def _envelope_digest(head: Any) -> dict[str, str] | None:
    own = head.get("dig") if isinstance(head, Mapping) else None
    if not isinstance(own, Mapping) or not _text(own.get("alg")) or not _text(own.get("val")):
        return None
    return {"alg": own["alg"], "val": own["val"]}


def _own_hash(data: Mapping[str, Any]) -> str:
    content = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
