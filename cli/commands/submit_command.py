"""`stageline submit`: documents or remote files as one job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.commands.submit import find_files, parse_metadata, render, submit_files, submit_urls, watch_until_ended
from cli.ids import remember
from cli.output import Output, chosen, out, show
from cli.target import CliError


def submit(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders; hidden ones are left out")] = None,
    url: Annotated[list[str] | None, typer.Option(help="A remote file; may repeat")] = None,
    workflow: Annotated[str, typer.Option(help="Which workflow to run")] = "documents",
    metadata: Annotated[list[str] | None, typer.Option(help="key=value, may repeat; or one JSON object")] = None,
    watching: Annotated[bool, typer.Option("--watch", help="Show progress until the job ends")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Submit documents as one job. With --watch, the exit code is 1 unless the job completed.

    Example: stageline submit invoices/ --metadata customer=7 --watch
    """
    files = find_files(paths or [])
    if not files and not url:
        raise CliError("nothing to submit: name files, folders or --url", 2)
    if files and url:
        raise CliError("files and --url make separate jobs: submit them one after the other", 2)
    request = {"workflow": workflow, "metadata": metadata_of(metadata or [])}
    live = out.is_terminal and chosen(as_json) is Output.TABLE

    async def work(client: Client) -> dict[str, Any]:
        job_id = await (submit_files(client, files, request) if files else submit_urls(client, url or [], request))
        remember(client.target, job_id)
        return (await watch_until_ended(client, [job_id], out, live))[0] if watching else {"id": job_id}

    started = time.monotonic()
    job = run(data_dir, work)
    elapsed = time.monotonic() - started
    show(job, as_json, lambda: render([job], elapsed, 10_000) if watching and not live else job["id"])
    if watching and job["stage"] != "completed":
        raise typer.Exit(1)


def metadata_of(given: list[str]) -> dict[str, Any] | None:
    """Metadata from `key=value` pairs or one JSON object. Raises `CliError`."""
    if not given:
        return None
    if len(given) == 1 and given[0].lstrip().startswith("{"):
        return parse_metadata(given[0])
    found: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CliError(f"--metadata: key=value or a JSON object is expected, not {pair!r}", 2)
        found[key] = value
    return found
