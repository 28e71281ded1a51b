"""What Alfred's clients see: the vendor's ids, members and times, made of our events (reference/vendor-apis.md §1.1–1.3).

On our own topics the id of a company, a tag or a data point is its name. The vendor documents UUIDs, and its .NET client reads nothing
else, so each has one in this view: derived, so that it stays the same and needs no table. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from contracts.identity import derived
from contracts.names import canonical_event_name

Link = Callable[[str], str]
"""Path at the gateway → its address."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_TAG_IDS = ("tag_id", "previous_tag_id", "proposed_tag_id", "new_tag_id", "tag_being_removed_id")
_OBJECT = "stageline://"
_REQUEST = ("user_name", "merge", "metadata", "file_count")
_RETRIES = ("retries", "exceeded_retries")
_BLOB = ("file_id", "blob_name", "blob_url")
_TAG = ("tag_id", "tag_name")
_CLASSIFIED = ("classification_score", "classification_status")
_NAMES = ("file_name", "file_name_without_extension")
_DATES = ("creation_date", "update_date")
_CATEGORY = ("file_log_id", "description", "confidence", *_DATES)
_EXTRACTED = ("file_log_id", "content", "provider", *_DATES)
_PROPERTY = ("file_log_id", "name", "value", *_DATES)
MEMBERS: dict[str, tuple[str, ...]] = {
    "job_create_event": (*_REQUEST, "file_urls"),
    "job_start_event": (),
    "job_stage_update_event": ("stage",),
    "job_retry_event": (*_REQUEST, *_RETRIES),
    "job_exceeded_retries_event": (*_REQUEST, *_RETRIES),
    "job_failed_event": (*_RETRIES, "error_messages"),
    "job_invalid_event": (*_RETRIES, "error_messages", "has_broken_input_sources"),
    "job_finished_event": (),
    "file_add_to_job_event": ("file_id", "job_id", *_DATES),
    "file_category_create_event": _CATEGORY,
    "file_category_delete_event": _CATEGORY,
    "file_change_tag_event": (
        "file_id", "previous_tag_id", "previous_tag_name", "proposed_tag_id", "classification_score", "new_tag_id", "new_tag_name",
    ),
    "file_done_event": (*_BLOB, *_TAG, "file_status", *_DATES),
    "file_extracted_data_create_event": _EXTRACTED,
    "file_extracted_data_delete_event": _EXTRACTED,
    "file_failed_event": (*_BLOB, *_TAG, *_CLASSIFIED, "file_status", *_DATES),
    "file_move_event": (*_BLOB, *_NAMES, "previous_file_directory", "new_file_directory", *_DATES),
    "file_move_to_pending_event": (*_BLOB, *_NAMES, *_DATES),
    "file_move_to_recycle_bin_event": (*_BLOB, *_NAMES, *_DATES),
    "file_property_create_event": _PROPERTY,
    "file_property_delete_event": _PROPERTY,
    "file_remove_tag_event": ("file_id", "tag_being_removed_id", "tag_being_removed_name", "classification_score"),
    "file_status_update_event": (*_BLOB, *_TAG, "manual_classification", *_CLASSIFIED, "file_status", *_DATES),
    "file_update_event": (*_BLOB, "file_log_id", *_NAMES, *_DATES),
}  # fmt: skip
"""Name of an event → the members that the vendor documents beside those of every event. The view shows each of them, or null."""
_OF_ALL = ("event_name", "event_type", "company_id", "company_name")
_OF_JOBS = ("job_id", *_DATES)


def is_uuid(value: str) -> bool:
    """True for a UUID in its canonical form, in either case."""
    return _UUID.fullmatch(value) is not None


def company_id(tenant_id: str) -> str:
    """The UUID of a company. A tenant whose id is a UUID has that one: it may be the company's id at the vendor."""
    return tenant_id.lower() if is_uuid(tenant_id) else derived(tenant_id, "alfred", "company")


def tag_id(tenant_id: str, name: str) -> str:
    """The UUID of a tag."""
    return derived(tenant_id, "alfred", "tag", name)


def metadata_id(tenant_id: str, name: str) -> str:
    """The UUID of a metadata definition, which the vendor also calls a data point."""
    return derived(tenant_id, "alfred", "metadata", name)


def value_id(file_id: str, name: str) -> str:
    """The UUID of the value that a file has for a metadata definition."""
    return derived(file_id, "alfred", "value", name)


def names_it(given: str, uuid: str, name: str) -> bool:
    """True when an id that a client gives is `uuid`, in either case, or `name`."""
    return given.lower() == uuid or given == name


def download_path(file_id: str) -> str:
    """The gateway's path for the bytes of a file."""
    return f"/api/file/download/{file_id}"


def blob_url(url: str | None, file_id: str, link: Link) -> str | None:
    """The address of a file's bytes. The vendor documents one for HTTP, which the names of our objects are not."""
    return link(download_path(file_id)) if url is not None and url.startswith(_OBJECT) else url


def event_view(event: dict[str, Any], link: Link) -> dict[str, Any]:
    """A job or file event, from its JSON on our topics.

    `event_time` is in whole seconds, as the vendor documents it. Members that are our additions stay as they are.
    """
    inner: dict[str, Any] = {**dict.fromkeys(_documented(event)), **event["event"]}
    tenant = inner["company_id"]
    inner["company_id"] = company_id(tenant)
    for member in _TAG_IDS:
        name = inner.get(member)
        if name is not None and not is_uuid(name):
            inner[member] = tag_id(tenant, name)
    if "blob_url" in inner:
        inner["blob_url"] = blob_url(inner["blob_url"], inner["file_id"], link)
    if "file_urls" in inner:
        uploaded = inner.pop("uploaded_ids", None) or ()
        inner["file_urls"] = [*(inner["file_urls"] or ()), *(link(download_path(i)) for i in uploaded)]
    return {**event, "event_time": float(round(event["event_time"])), "event": inner}


def flattened(view: dict[str, Any]) -> dict[str, Any]:
    """The view of an event whose inner members also stand beside the envelope's."""
    return {**view["event"], **view}


def _documented(event: dict[str, Any]) -> tuple[str, ...]:
    name = canonical_event_name(event["event"]["event_name"]) or ""
    members = MEMBERS.get(name, ())
    return (*_OF_ALL, *_OF_JOBS, *members) if name.startswith("job_") else (*_OF_ALL, *members)
