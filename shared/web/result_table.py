"""Results of jobs as rows of a table: one row per file, or one per job without files. Pure; the gateway and the command line use it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
FIRST = ("job_id", "job_key", "workflow", "stage", "file_id", "file_name", "status", "tag", "score", "code", "message")
"""Columns of every table. Those of the fields, properties and results follow in the order in which they first appear."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula for a spreadsheet (OWASP, "CSV Injection")."""


def result_of(job: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What came out of a job, from the gateway's records: its steps' results, and each file with fields, results and outputs."""
    return {
        "job_id": job["id"], "job_key": job.get("job_key"), "workflow": job["workflow"], "stage": job["stage"],
        "error_messages": job["error_messages"], "results": job.get("results") or {}, "outputs": _outputs("jobs", job),
        "files": [
            {
                "file_id": f["id"], "file_name": f["file_name"], "status": f["status"], "tag": f["tag_name"],
                "score": f["classification_score"], "code": f["code"], "message": f["message"], "fields": f["fields"] or {},
                "properties": f["properties"], "results": f.get("results") or {}, "outputs": _outputs("files", f),
            }
            for f in files
        ],
    }  # fmt: skip


def _outputs(kind: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    made = enumerate(record.get("outputs") or (), 1)
    return [{"file_name": o["file_name"], "size": o["size"], "url": f"/v1/{kind}/{record['id']}/outputs/{n}"} for n, o in made]


def rows_of(results: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The table's rows. A nested value has the column `fields.a.b` or `results.step.key`; a list is JSON."""
    rows: list[Row] = []
    for job in results:
        base = {name: job[name] for name in ("job_id", "job_key", "workflow", "stage")}
        own = _flat("results", job["results"])
        for f in job["files"] or ({"code": None, "message": "; ".join(job["error_messages"]) or None},):
            row = base | {name: f.get(name) for name in FIRST[4:]} | own
            for part in ("fields", "properties", "results"):
                row |= _flat(part, f.get(part) or {})
            rows.append(row)
    return rows


def _flat(name: str, value: Any) -> Row:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(f"{name}.{key}", inner).items()}
    return {name: json.dumps(value, ensure_ascii=False) if isinstance(value, (list, tuple)) else value}


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Names of the columns: the fixed ones, then the others as they first appear."""
    return list(dict.fromkeys([*FIRST, *(name for row in rows for name in row)]))


def as_csv(rows: Sequence[Row]) -> str:
    """RFC 4180 with a header line. Text that a spreadsheet would compute has an apostrophe before it; numbers stay numbers."""
    columns = columns_of(rows)
    return table_as_csv(columns, [[row.get(name) for name in columns] for row in rows])


def table_as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same of any table, given the names of its columns and the cells of each row."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_cell(name) for name in columns])
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value):
        return "'" + value
    return value


def _is_number(value: str) -> bool:
    return value.strip().lstrip("+-").replace(".", "", 1).replace(",", "", 1).isdigit()
