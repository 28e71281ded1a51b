"""`stageline logs` and `stageline trace`: what the services here logged, and what happened to a job, in order of time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, print_line, run
from cli.filters import moment_of
from cli.ids import JobId, job_id_of
from cli.job_history import history_of
from cli.output import Output, chosen, moment, plain, show_rows
from cli.target import CliError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SHOWN = ("time", "level", "service", "message", "logger", "exception")
Level = Annotated[str, typer.Option(help="Least level: debug, info, warning, error or critical")]


def logs(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="ingest, notifier, …; default: all")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new lines")] = False,
    job_id: Annotated[str | None, typer.Option("--job", help="Only lines about this job: its whole id, or the beginning")] = None,
    level: Level = "debug",
    since: Annotated[str | None, typer.Option(help="Since then: 10min, 2h, 2026-12-01T08:00:00Z")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=1_000_000, help="Most lines, the newest ones")] = 200,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print what the services here logged, in order of time. Exit code 4 when there are no such logs.

    Example: stageline logs job_orchestrator --level warning --since 1h
    """
    if level.upper() not in LEVELS:
        raise CliError(f"--level: {level!r} is none of {', '.join(LEVELS).lower()}", 2)
    files = _files(data_dir, services or [])
    least = LEVELS.index(level.upper())
    after = moment_of(since, "--since")[:19] if since else ""

    def fits(line: dict[str, Any]) -> bool:
        known = LEVELS.index(line["level"]) if line.get("level") in LEVELS else 1
        about = str(line.get("job.id") or line.get("job_id") or "")
        return known >= least and str(line.get("time", after)) >= after and (not job_id or about.startswith(job_id))

    found = sorted((line for file in files for line in _lines(file, 0) if fits(line)), key=lambda line: str(line.get("time", "")))
    ends = {file: file.stat().st_size for file in files}
    for line in found[len(found) - min(limit, len(found)) :]:
        _print(line, as_json)
    while follow:
        time.sleep(0.3)
        for file in files:
            size = file.stat().st_size
            for line in _lines(file, ends[file] if size >= ends[file] else 0):
                if fits(line):
                    _print(line, as_json)
            ends[file] = size


def trace(job_id: JobId, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show what happened to a job and its files, in order, with the time since it began.

    Example: stageline trace @last
    """

    async def work(client: Client) -> list[dict[str, Any]]:
        return await history_of(client, await job_id_of(client, job_id))

    events = run(data_dir, work)
    began = events[0]["event_time"] if events else 0.0
    columns: dict[str, Any] = {
        "time": lambda e: moment(e["event_time"]), "after": lambda e: f"{e['event_time'] - began:.3f} s",
        "event": lambda e: e["event"]["event_name"].removesuffix("_event"), "step": lambda e: e["event"].get("step"),
        "file": lambda e: e["event"].get("file_id"),
        "what": lambda e: " ".join(
            plain(e["event"][k]) for k in ("stage", "file_status", "attempt", "code", "message", "reason") if e["event"].get(k)
        ),
    }  # fmt: skip
    show_rows(events, columns, as_json, empty="no event of this job is kept")


def _files(data_dir: Path, services: list[str]) -> list[Path]:
    folder = data_dir / "logs"
    known = sorted(folder.glob("*.log")) if folder.is_dir() else []
    if not known:
        raise CliError(f"{folder} holds no logs: this command reads those of a pipeline of `stageline up`", 4)
    # `stage_worker` names its replicas `stage_worker-2`, …, too.
    wanted = [file for file in known if not services or file.stem in services or file.stem.rpartition("-")[0] in services]
    if not wanted:
        raise CliError(f"no logs of {', '.join(services)}; there are {', '.join(file.stem for file in known)}", 4)
    return wanted


def _lines(file: Path, start: int) -> Iterator[dict[str, Any]]:
    """Whole lines from a place in a file on. A line of another program, such as the broker's, is a message."""
    with file.open("rb") as stream:
        stream.seek(start)
        for raw in stream:
            text = raw.decode("utf-8", "replace").rstrip()
            try:
                found = json.loads(text)
            except ValueError:
                found = None
            if isinstance(found, dict):
                yield found
            elif text:
                yield {"time": _time_of(text), "level": "INFO", "service": file.stem, "message": text}


def _time_of(text: str) -> str:
    """The time at the beginning of a line of the broker: `[2026-12-01 04:35:29,123] INFO …`; empty for any other."""
    try:
        return datetime.fromisoformat(text[1:20]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") if text.startswith("[") else ""
    except ValueError:
        return ""


def _print(line: dict[str, Any], as_json: bool) -> None:
    form = chosen(as_json)
    if form is not Output.TABLE:
        print_line(json.dumps(line, ensure_ascii=False))
        return
    when = str(line.get("time", ""))[:23].replace("T", " ")
    more = " ".join(f"{k}={plain(v)}" for k, v in line.items() if k not in SHOWN)
    text = (
        f"{when + 'Z' if when else '':<24} {line.get('level', ''):<8} {line.get('service', ''):<17} {plain(line.get('message'))}"
    )
    print_line(f"{text}  {more}".rstrip() + (f"\n{line['exception']}" if line.get("exception") else ""))
