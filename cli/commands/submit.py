"""Hand in documents as a deferred session or as remote URLs, and watch them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.client import Client, CliError

ENDS = ("completed", "failed", "invalid", "cancelled")
FILE_ENDS = ("finished", "failed", "invalid", "cancelled")
STYLE = {"finished": "green", "completed": "green", "failed": "red", "invalid": "yellow", "cancelled": "magenta"}


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Files named, and those in folders named, in order. Raises `CliError` when one does not exist or there are none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        elif path.is_file():
            found.append(path)
        else:
            raise CliError(f"{path}: no such file or folder", 2)
    return found


async def submit_files(client: Client, files: Sequence[Path], wish: dict[str, Any]) -> str:
    """Open a session, upload side by side, close it into a job; returns the job id. Every request is safe to repeat."""
    run = secrets.token_hex(12)
    session = (await client.call("POST", "/api/deferred/create", headers={"idempotency-key": run}))["session_id"]
    gate = asyncio.Semaphore(8)

    async def upload(index: int, path: Path) -> None:
        def form(opened: contextlib.ExitStack) -> aiohttp.FormData:
            parts = aiohttp.FormData()
            parts.add_field("session_id", session)
            parts.add_field("file", opened.enter_context(path.open("rb")), filename=path.name)
            return parts

        async with gate:
            await client.call("POST", "/api/file/uploadfile", form=form, headers={"idempotency-key": f"{run}-{index}"})

    uploads = [asyncio.create_task(upload(i, path)) for i, path in enumerate(files)]
    try:
        await asyncio.gather(*uploads)
    finally:
        # One has failed: the others would go on behind the back of whoever is told so.
        for task in uploads:
            task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
    return str((await client.call("POST", "/api/job/create", json={"session_id": session, **wish}))["job_id"])


async def submit_urls(client: Client, urls: Sequence[str], wish: dict[str, Any]) -> str:
    """One job of remote files; returns its id."""
    headers = {"idempotency-key": secrets.token_hex(12)}
    answer = await client.call("POST", "/api/file/upload", json={"urls": list(urls), **wish}, headers=headers)
    return str(answer["job_id"])


async def watch(client: Client, job_ids: Sequence[str], console: Console, live: bool) -> list[dict[str, Any]]:
    """Show the jobs until they end (live when on a terminal); returns their final records."""
    started = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=False) if live else _Silent() as view:
        while True:
            jobs = await asyncio.gather(*(client.call("GET", f"/v1/jobs/{job_id}") for job_id in job_ids))
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
        """Nobody looks."""


def render(jobs: Sequence[dict[str, Any]], elapsed: float, height: int) -> Group:
    """A header per job and a line per file; long jobs show what is running and what went wrong."""
    room = max(6, height - 4 * len(jobs) - 2)
    parts: list[Any] = []
    for job in jobs:
        tally = Counter(f["status"] for f in job["files"])
        done = sum(tally[s] for s in FILE_ENDS)
        waits = f"  [dim]{escape(job['waiting']['message'])}[/dim]" if job.get("waiting") else ""
        head = f"[bold]{job['id']}[/bold]  [{STYLE.get(job['stage'], 'cyan')}]{job['stage']}[/]  {done}/{len(job['files'])} files  {elapsed:.1f} s"
        parts += [Text.from_markup(head + waits), file_table(job["files"], max(3, room // len(jobs)))]
    return Group(*parts)


def file_table(files: Sequence[dict[str, Any]], rows: int, ids: bool = False) -> Table:
    """Files of a job, the interesting ones first when there is no room for all; with their ids when asked."""
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    shown = list(files)
    if len(shown) > rows:
        rank = {"failed": 0, "invalid": 0}
        shown = sorted(files, key=lambda f: (rank.get(f["status"], 2 if f["status"] in FILE_ENDS else 1), f["file_name"]))[
            : rows - 1
        ]
    for f in shown:
        progress = f"{f['progress']['done']}/{f['progress']['total'] or '?'}" if f.get("progress") else ""
        note = f.get("message") or f.get("tag_name") or f.get("step") or ""
        status = Text(f["status"], STYLE.get(f["status"], "cyan"))
        table.add_row(*([f["id"]] if ids else []), Text(f["file_name"]), status, progress, Text(note))
    if len(files) > len(shown):
        table.add_row(f"… and {len(files) - len(shown)} more", "", "", "")
    return table


def parse_metadata(text: str | None, option: str = "--metadata") -> dict[str, Any] | None:
    """JSON object of an option. Raises `CliError` that names it."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CliError(f"{option}: not valid JSON: {error}", 2) from None
    if not isinstance(value, dict):
        raise CliError(f"{option}: a JSON object is expected", 2)
    return value
