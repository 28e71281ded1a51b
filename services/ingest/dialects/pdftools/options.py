"""The Conversion Service's options, results and errors (reference/vendor-apis.md §3). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Record = dict[str, Any]
Pairs = Sequence[tuple[str, str]]
PASSWORD = "DOC.PASSWORD"
OPTIONS: Mapping[str, str] = {
    PASSWORD: "text", "META.TITLE": "text", "META.AUTHOR": "text", "META.SUBJECT": "text", "META.KEYWORDS": "text",
    "DOC.ROLE": "role", "AF.RELATIONSHIP": "relationship", "AF.DESCRIPTION": "text", "AF.MODDATE": "date",
    "PDF.LINEARIZE": "boolean", "IMAGE.LONGEST_SIDE": "number",
}  # fmt: skip
"""Option → type of its value. `DOC.PASSWORD` may be repeated; every value is tried. `DOC.ROLE` and `AF.*` are of attachments."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "boolean": ("true", "false"), "role": ("main", "attached"),
    "relationship": ("Source", "Data", "Alternative", "Supplement", "Unspecified"),
}  # fmt: skip
"""Type → its values, in any case. The relationships are those of ISO 19005-3 §6.8."""
NUMBERS = (100, 20_000)
"""Smallest and largest value of a numeric option, in pixels."""
PLACEHOLDER = "<string>"
"""What stands in the vendor's collection where a caller writes a name or a value. As a name it is no option."""
_PDF_DATE = re.compile(r"D:(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:Z|([+-]\d\d)'?(\d\d)?'?)?")

ERRORS: Mapping[str, str] = {
    "unsupported_type": "unsupportedFormat", "empty": "corrupt", "damaged": "corrupt", "unreadable": "corrupt", "crashed": "corrupt",
    "password": "password", "encrypted": "password", "option": "option", "limit_time": "timeout", "lease_expired": "timeout",
    "timeout_queued": "timeout", "timeout_total": "timeout", "limit_cpu": "timeout", "worker_error": "internal", "limit_memory": "generic",
    "ssrf_refused": "external", "source_refused": "external", "source_unavailable": "external", "unknown_action": "configuration",
    "converter_not_installed": "configuration", "not_configured": "configuration", "cancelled": "canceled", "conformance": "conformance",
}  # fmt: skip
"""Our error code → the vendor's code. All other codes are `generic`."""
HTTP_STATUS: Mapping[str, int] = {
    "unsupportedFormat": 415, "conformance": 422, "corrupt": 422, "generic": 422, "option": 422, "password": 422,
    "unsupportedFeature": 422, "canceled": 500, "configuration": 500, "internal": 500, "timeout": 500, "external": 422,
}  # fmt: skip
"""Error code → HTTP status of the Simple API. The vendor does not document the status of `external`."""


class BadOption(ValueError):
    """An option is not valid; the text names it."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a document or job: single values, and passwords in the order in which they are tried."""

    values: Mapping[str, str] = field(default_factory=dict)
    passwords: tuple[str, ...] = ()


def read_options(listed: Any) -> Pairs:
    """(name, value) pairs from a JSON array of `{name, value}`; none for a blank text, an empty list in XML. Raises `BadOption`."""
    if listed is None or (isinstance(listed, str) and not listed.strip()):
        return ()
    if not isinstance(listed, list) or len(listed) > 500:
        raise BadOption("options: an array of name and value is expected")
    found: list[tuple[str, str]] = []
    for number, entry in enumerate(listed):
        name, value = (entry.get("name"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if isinstance(value, (int, float)):
            value = str(value)
        if not isinstance(name, str) or not isinstance(value, str) or len(name) > 100 or len(value) > 4000 or "\x00" in value:
            raise BadOption(f"options.{number}: a name and a value are expected")
        if name != PLACEHOLDER:
            found.append((name, value))
    return found


def options_of(pairs: Pairs) -> Options:
    """The options of `pairs`. Raises `BadOption` for an unknown option, and for a repeated one that may not repeat."""
    values: dict[str, str] = {}
    passwords: list[str] = []
    for name, value in pairs:
        if name not in OPTIONS:
            raise BadOption(f"{name}: there is no such option")
        if name == PASSWORD:
            passwords.append(value)
        elif name in values:
            raise BadOption(f"{name}: may be given once")
        else:
            values[name] = value
    return Options(values, tuple(passwords))


def wrong_value(options: Iterable[Options]) -> str | None:
    """A message on the first value that does not have its option's type. It begins with the option's name."""
    for some in options:
        for name, value in some.values.items():
            kind = OPTIONS[name]
            if kind in CHOICES and _chosen(kind, value) is None:
                return f"{name}: {' or '.join(CHOICES[kind])} is expected, not {value[:50]!r}"
            if kind == "number" and not NUMBERS[0] <= _number(value) <= NUMBERS[1]:
                return f"{name}: a number of {NUMBERS[0]} to {NUMBERS[1]} is expected, not {value[:50]!r}"
            if kind == "date" and read_date(value) is None:
                return f"{name}: a time such as 2026-11-30T08:00:00Z is expected, not {value[:50]!r}"
    return None


def read_date(value: str) -> datetime | None:
    """A time in ISO 8601, or as PDFs write it (`D:20261130080000Z`), by default in UTC; None for anything else, and before 1900."""
    found = _PDF_DATE.fullmatch(value)
    if found is not None:
        zone = f"{found[7]}:{found[8] or '00'}" if found[7] else "+00:00"
        value = f"{found[1]}-{found[2]}-{found[3]}T{found[4]}:{found[5]}:{found[6]}{zone}"
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    if read.year < 1900:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def merge_options(profile: Options, job: Options, documents: Mapping[str, Options]) -> Record:
    """The options for the worker. A document's value overrides the job's, which overrides the profile's."""
    found: Record = {
        "job": _typed({**profile.values, **job.values}), "documents": {i: _typed(o.values) for i, o in documents.items() if o.values},
        "passwords": [*job.passwords, *profile.passwords],
        "document_passwords": {i: list(o.passwords) for i, o in documents.items() if o.passwords},
    }  # fmt: skip
    wrong = wrong_value([profile, job, *documents.values()])
    return found | ({"invalid": wrong} if wrong else {})


def _typed(values: Mapping[str, str]) -> Record:
    return {name: _typed_value(OPTIONS[name], value) for name, value in values.items()}


def _typed_value(kind: str, value: str) -> Any:
    if kind == "boolean":
        return value.lower() == "true"
    if kind == "date":
        return (read_date(value) or datetime.min.replace(tzinfo=UTC)).isoformat()
    return _number(value) if kind == "number" else _chosen(kind, value) or value


def _chosen(kind: str, value: str) -> str | None:
    """The choice that `value` means, in any case; None for none, and for a kind without choices."""
    return next((choice for choice in CHOICES.get(kind, ()) if choice.casefold() == value.casefold()), None)


def _number(value: str) -> int:
    """The value as a number of at most nine digits, else -1."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1


def status_of(row: Mapping[str, Any], job: Mapping[str, Any] | None) -> Record:
    """`{code, message}`: `creating` until the start, then `pending`, `processing`, `completed`. The result has success or
    failure."""
    if row["job_id"] is None:
        return {"code": "creating", "message": "Waiting for data, or for the start."}
    if job is None or job["stage"] == "queued":
        return {"code": "pending", "message": "Started; no step has begun yet."}
    if job["stage"] in ("completed", "failed", "invalid", "cancelled"):
        return {"code": "completed", "message": "The result is available."}
    return {"code": "processing", "message": f"At {job['step'] or job['stage']}."}


def result_of(job: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> Record:
    """The result of an ended job: error (if it failed), events and the list of data.

    `status` is today's, `success` that of version 4, which is true with warnings too.
    """
    events = [e for f in files for e in _events(f, job["stage"] != "completed")]
    data = data_of(job, files) if job["stage"] == "completed" else []
    entries = [{"resultId": str(n), "fileName": d["file_name"], "properties": d["properties"]} for n, d in enumerate(data, 1)]
    if job["stage"] == "completed":
        bad = any(e["severity"] != "info" for e in events)
        return {"success": True, "status": "warning" if bad else "success", "events": events, "dataList": entries}
    return {"success": False, "status": "error", "error": error_of(job, files), "events": events, "dataList": []}


def error_of(job: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> Record:
    """The error of a job that did not succeed."""
    if job["stage"] == "cancelled":
        return {"code": "canceled", "message": "The job was canceled."}
    failed = next((f for f in files if f["status"] in ("failed", "invalid")), None)
    if failed is not None:
        return {"code": ERRORS.get(failed["code"] or "", "generic"), "message": f"{failed['file_name']}: {failed['message']}"}
    said = (job["error_messages"] or ["The job failed."])[0]
    ours = said.rpartition("[")[2].rstrip("]") if said.endswith("]") else ""
    return {"code": ERRORS.get(ours, "generic"), "message": said}


def _events(file: Mapping[str, Any], error: bool) -> list[Record]:
    place = {"dataId": file["id"]}
    found = [
        {"code": name.removeprefix("warning."), "severity": "warning", "message": value, **place}
        for name, value in sorted(file["properties"].items())
        if name.startswith("warning.")
    ]
    if file["status"] in ("failed", "invalid"):
        message = f"{file['file_name']}: {file['message']}"
        found.append({"code": "Generic", "severity": "error" if error else "warning", "message": message, **place})
    return found


def data_of(job: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The job's outputs; without any the outputs of its files; without any their result packages."""
    made = [_datum(o, ()) for o in job.get("outputs") or ()]
    if not made:
        made = [_datum(o, _pages(f)) for f in files for o in f.get("outputs") or ()]
    if not made:
        made = [
            _datum({"file_name": f"{f['file_name']}.json", "blob_name": f["result_blob"]}, _pages(f))
            for f in files
            if f["result_blob"]
        ]
    return made


def _pages(file: Mapping[str, Any]) -> tuple[Record, ...]:
    return ({"name": "pageCount", "value": str(file["page_count"])},) if file.get("page_count") else ()


def _datum(output: Mapping[str, Any], properties: Iterable[Record]) -> Record:
    return {"file_name": output["file_name"], "blob": output["blob_name"], "properties": list(properties)}
