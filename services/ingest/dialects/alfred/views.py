"""Records as Alfred's answers show them: the vendor's ids, every documented member, numbers that are never null. Pure.

Follows reference/vendor-apis.md §1.6; which members may be null is as in the types of the vendor's .NET client.
"""

from __future__ import annotations

from typing import Any

from contracts import derived
from contracts.alfred_view import Link, blob_url, company_id, download_path, metadata_id, tag_id, value_id
from services.ingest.adapters.store.catalogue import values_of

Record = dict[str, Any]
_JOB: Record = {
    "id": None, "creation_date": None, "update_date": None, "has_job_request_info": False, "job_request_date": None, "start_date": None,
    "company_id": None, "bulk_id": None, "deferred_session_id": None, "user_name": None, "channel": None, "source": None,
    "container": None, "remote_file_name": None, "remote_file_names": None, "merge": False, "decompose": False,
    "propagate_metadata": False, "parent_file_prefix": None, "decomposed_page_rotation": 0, "metadata": None, "file_count": 0,
    "file_sources_count": 0, "metadata_objects_count": 0, "finished_files": 0, "files": None, "retries": 0, "exceeded_retries": False,
    "file_urls": [], "error_messages": [], "stage": None, "priority": "normal", "input_source_type": 0, "email_from": None,
    "email_subject": None, "email_body": None,
}  # fmt: skip
"""A job's members, each with what it is where the record says nothing."""
_FILE: Record = {
    "id": None, "creation_date": None, "update_date": None, "file_name": None, "file_name_without_extension": None, "blob_name": None,
    "blob_url": None, "user_name": None, "md5_hash": None, "content_type": None, "channel": None, "should_be_classified": True,
    "classifier": None, "classification_score": 0.0, "status": None, "input_type": "0", "is_duplicate": False,
    "is_duplicate_by_values": False, "duplicate_origin_id": None, "tag_id": None, "tag_name": None, "is_parent": False,
    "parent_id": None, "deferred_session_id": None, "company_id": None, "file_size": 0, "proposed_tag_id": None,
    "proposed_tag_variance": 0.0, "classification_score_above_deviation": False, "confirmed_tag_id": None, "confirmed_by": None,
    "manual_classification": False, "metadata": None, "page_count": 0, "page_number": 0,
}  # fmt: skip
"""A file's members, as those of a job."""
_TAG_IDS = ("tag_id", "proposed_tag_id", "confirmed_tag_id")


def job(record: Record, link: Link, files: list[Record] | None = None) -> Record:
    """A job. `files`: its files, where the answer lists them; without them the member is null."""
    uploaded = record.get("uploaded_ids")
    if uploaded is None:
        # A record of a previous release.
        uploaded = [f["id"] for f in files or ()] if not record["file_urls"] else []
    return {
        **_filled(_JOB, record), "company_id": company_id(record["company_id"]), "files": files,
        "propagate_metadata": record.get("propagate_metadata") not in (None, False),
        "metadata_objects_count": _count(record.get("metadata")),
        "file_urls": [*record["file_urls"], *(link(download_path(i)) for i in uploaded)],
    }  # fmt: skip


def file(record: Record, link: Link) -> Record:
    """A file."""
    tenant = record["company_id"]
    tags = {name: tag_id(tenant, record[name]) if record.get(name) else None for name in _TAG_IDS}
    return {
        **_filled(_FILE, record), **tags, "company_id": company_id(tenant), "input_type": str(record.get("input_type") or 0),
        "blob_url": blob_url(record.get("blob_url"), record["id"], link),
    }  # fmt: skip


def session(record: Record, files: list[Record]) -> Record:
    """A deferred session with its files."""
    return {**record, "company_id": company_id(record["company_id"]), "files": files}


def tag(tenant: str, row: Record) -> Record:
    """A tag of the catalogue."""
    return {**row, "id": tag_id(tenant, row["name"])}


def definition(tenant: str, row: Record) -> Record:
    """A metadata definition of the catalogue."""
    of = tag_id(tenant, row["tag_name"]) if row["tag_name"] is not None else None
    return {**row, "id": metadata_id(tenant, row["name"]), "tag_id": of}


def values(record: Record) -> list[Record]:
    """The extracted values of a file, one row per metadata definition."""
    return [
        {
            **row, "id": value_id(record["id"], row["metadata_name"]),
            "metadata_id": metadata_id(record["company_id"], row["metadata_name"]),
            "classification_score": row["classification_score"] or 0.0,
        }
        for row in values_of(record)
    ]  # fmt: skip


def user_id(tenant: str, user_name: str) -> str:
    """The UUID of a user."""
    return derived(tenant, "alfred", "user", user_name)


def _filled(members: Record, record: Record) -> Record:
    return {**members, **{name: value for name, value in record.items() if value is not None or members.get(name) is None}}


def _count(metadata: Any) -> int:
    return len(metadata) if isinstance(metadata, list) else 0 if metadata is None else 1
