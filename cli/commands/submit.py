"""Submits documents as a deferred session or as remote URLs, and shows their progress."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.client import Client
from cli.output import grid, notes, plain
from cli.progress import progress
from cli.target import CliError, route
from cli.waiting import reason_line
from shared.web.form_data import FormData

ENDS = ("completed", "failed", "invalid", "cancelled")
FILE_ENDS = ("finished", "failed", "invalid", "cancelled")
STYLE = {"finished": "green", "completed": "green", "failed": "red", "invalid": "yellow", "cancelled": "magenta"}


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The named files, and the files in the named folders, in order. Raises `CliError` when a path does not exist."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and not is_hidden(p.relative_to(path)))
        elif path.is_file():
            found.append(path)
        else:
            raise CliError(f"{path}: no such file or folder", 2)
    return found


def is_hidden(path: Path) -> bool:
    """True for a file or folder whose name begins with a dot, and for all in such a folder."""
    return any(part.startswith(".") for part in path.parts)


def sent_name(path: Path) -> str:
    """The file's name as it is sent: bytes that are not UTF-8, and control characters, become replacement characters."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" else c for c in name)


async def submit_files(client: Client, files: Sequence[Path], request: dict[str, Any]) -> str:
    """Open a session, upload up to eight files at a time, close it into a job; returns the job id.

    Every request carries an idempotency key or is idempotent, so retries create nothing twice.
    """
    run = secrets.token_hex(12)
    session = (await client.call("POST", "/api/deferred/create", headers={"idempotency-key": run}))["session_id"]
    gate = asyncio.Semaphore(8)

    async def upload(index: int, path: Path) -> None:
        def form(opened: contextlib.ExitStack) -> FormData:
            parts = FormData()
            parts.add_field("session_id", session)
            parts.add_field("file", opened.enter_context(path.open("rb")), filename=sent_name(path))
            return parts

        async with gate:
            await client.call("POST", "/api/file/uploadfile", form=form, headers={"idempotency-key": f"{run}-{index}"})

    uploads = [asyncio.create_task(upload(i, path)) for i, path in enumerate(files)]
    try:
        with progress("uploaded", "files") as report:
            for done, finished in enumerate(asyncio.as_completed(uploads), 1):
                await finished
                report(done, len(files))
    except OSError as error:
        name = plain(os.fspath(error.filename)) if isinstance(error.filename, str) else "a file"
        raise CliError(f"{name}: {error.strerror or error}", 2) from None
    finally:
        # After a failure the remaining uploads must not continue unseen.
        for task in uploads:
            task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
    return str((await client.call("POST", "/api/job/create", json={"session_id": session, **request}))["job_id"])


async def submit_urls(client: Client, urls: Sequence[str], request: dict[str, Any]) -> str:
    """Create one job from remote files; returns its id."""
    headers = {"idempotency-key": secrets.token_hex(12)}
    answer = await client.call("POST", "/api/file/upload", json={"urls": list(urls), **request}, headers=headers)
    return str(answer["job_id"])


async def watch_until_ended(client: Client, job_ids: Sequence[str], console: Console, live: bool) -> list[dict[str, Any]]:
    """The same as `watch`. When the user ends it by Ctrl-C, the ids stay on the screen."""
    try:
        return await watch(client, job_ids, console, live)
    except asyncio.CancelledError:
        for job_id in job_ids:
            notes.print(Text(f"job {job_id} goes on; watch it by `stageline jobs watch {job_id}`"))
        raise


async def watch(client: Client, job_ids: Sequence[str], console: Console, live: bool) -> list[dict[str, Any]]:
    """Show the jobs until they have ended, updating in place if `live`; returns their final records."""
    started = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=False) if live else _Silent() as view:
        while True:
            jobs = await asyncio.gather(*(client.call("GET", route("/v1/jobs/{}", job_id)) for job_id in job_ids))
            view.update(render(jobs, time.monotonic() - started, console.height), refresh=True)
            if all(job["stage"] in ENDS for job in jobs):
                return list(jobs)
            await asyncio.sleep(0.25)


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def update(self, view: Any, refresh: bool) -> None:
        """Ignore updates: the output is not a terminal."""


def render(jobs: Sequence[dict[str, Any]], elapsed: float, height: int) -> Group:
    """A header per job and a line per file. When `height` is too small, failed and running files are shown first."""
    room = max(6, height - 4 * len(jobs) - 2)
    parts: list[Any] = []
    for job in jobs:
        tally = Counter(f["status"] for f in job["files"])
        done = sum(tally[s] for s in FILE_ENDS)
        waits = f"  {reason_line(job['waiting'])}" if job.get("waiting") else ""
        head = f"[bold]{job['id']}[/bold]  [{STYLE.get(job['stage'], 'cyan')}]{job['stage']}[/]  {done}/{len(job['files'])} files  {elapsed:.1f} s"
        parts += [Text.from_markup(head + waits), file_table(job["files"], max(3, room // len(jobs)))]
    return Group(*parts)


def file_table(files: Sequence[dict[str, Any]], rows: int) -> Table:
    """At most `rows` files of a job, failed and running ones first when not all fit."""
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    shown = list(files)
    if len(shown) > rows:
        rank = {"failed": 0, "invalid": 0}
        shown = sorted(files, key=lambda f: (rank.get(f["status"], 2 if f["status"] in FILE_ENDS else 1), f["file_name"]))[
            : rows - 1
        ]
    for f in shown:
        table.add_row(Text(plain(f["file_name"])), Text(f["status"], STYLE.get(f["status"], "cyan")), _done(f), Text(_note(f)))
    if len(files) > len(shown):
        table.add_row(f"… and {len(files) - len(shown)} more", "", "", "")
    return table


def file_grid(files: Sequence[dict[str, Any]]) -> Table | Text:
    """All files of a job with their ids."""
    cells = [[plain(f["id"]), plain(f["file_name"]), plain(f["status"]), _done(f), _note(f)] for f in files]
    return grid(cells, ["file", "name", "status", "done", "note"]) if cells else Text("no files")


def _done(file: dict[str, Any]) -> str:
    return f"{file['progress']['done']}/{file['progress']['total'] or '?'}" if file.get("progress") else ""


def _note(file: dict[str, Any]) -> str:
    return plain(file.get("message") or file.get("tag_name") or file.get("step"))


def parse_metadata(text: str | None, option: str = "--metadata") -> dict[str, Any] | None:
    """The JSON object given to an option, or None. Raises `CliError` naming the option."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CliError(f"{option}: not valid JSON: {error}", 2) from None
    if not isinstance(value, dict):
        raise CliError(f"{option}: a JSON object is expected", 2)
    return value
