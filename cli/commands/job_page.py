"""A job as a page, and an event as a line, for people."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli.output import grid, moment, plain
from cli.waiting import reason_line

SHOWN = ("stage", "file_status", "description", "code", "message", "reason")


def event_line(event: dict[str, Any]) -> str:
    """One event as a line: its time with the zone, its name, the job, and what changed."""
    data = event["data"]
    inner = data.get("event", data)
    when = moment(data["event_time"]) if "event_time" in data else utc(str(data.get("occurred_at", "")))
    about = " ".join(plain(inner[k]) for k in SHOWN if inner.get(k))
    subject = inner.get("job_id") or inner.get("session_id") or inner.get("file_id") or ""
    return f"{when:<20}  {event['type']:<28} {subject}  {about}"


def utc(iso: str) -> str:
    """A time of an event in ISO 8601, by UTC, as `2026-12-01 04:35:29Z`."""
    return iso[:19].replace("T", " ") + "Z" if iso else ""


def job_page(job: dict[str, Any], files: Table | Text) -> Group:
    """A job as a page: its stage, why it is waiting, its files, its history."""
    head = Text.assemble((job["id"], "bold"), f"  {job['stage']}  workflow {plain(job['workflow'])}")
    lines = [head, Text(f"created {job['creation_date']}  files {job['file_count']}  retries {job['retries']}")]
    if job.get("waiting"):
        lines.append(Text.from_markup(f"waiting: {reason_line(job['waiting'])}"))
    lines += [Text(plain(message), "red") for message in job["error_messages"]]
    lines += [Text(f"{step}: {json.dumps(result, ensure_ascii=False)}") for step, result in (job.get("results") or {}).items()]
    history = []
    for event in job["history"]:
        inner = event["event"]
        if inner["event_type"] == "job_event":
            name = inner["event_name"].removesuffix("_event")
            what = " ".join(plain(inner[k]) for k in ("stage", "attempt", "code", "message") if inner.get(k))
            history.append([moment(event["event_time"]), name, plain(inner.get("step")), what])
    happened = grid(history, ["time", "event", "step", "what"]) if history else Text("no event is kept")
    return Group(*lines, Text(), files, Text(), happened)
