"""`stageline results`: what came out of jobs and files, as a table, JSON, CSV or a ZIP file."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.client import Client, CliError
from cli.command import DEFAULT_DATA_DIR, DataDir, out, run
from shared.web.result_table import as_csv, rows_of

SHOWN = ("job_id", "file_id", "file_name", "status", "tag", "message")
"""Fixed columns of the table for people; those of fields and results follow."""
CHUNK = 1 << 20


class Output(StrEnum):
    """Formats of the results."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    ZIP = "zip"


def results(
    ids: Annotated[list[str] | None, typer.Argument(help="Jobs or files; without any, the jobs that match the options")] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
    to: Annotated[Path | None, typer.Option(help="File of the ZIP; default: results-ID.zip")] = None,
    stage: Annotated[list[str] | None, typer.Option()] = None,
    workflow: Annotated[str | None, typer.Option(help="name@version")] = None,
    tag: Annotated[str | None, typer.Option()] = None,
    key: Annotated[str | None, typer.Option(help="The producer's own job key")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="key=value; may repeat")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most jobs")] = 100,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what the steps of jobs returned, and the fields and outputs of their files. Exit code 4 when there is nothing."""
    if output is Output.ZIP:
        if ids is None or len(ids) != 1:
            raise CliError("--output zip: name one job", 2)
        run(data_dir, lambda c: _save(c, ids[0], to or Path(f"results-{ids[0][:8]}.zip")))
        return
    named = {"stage": stage, "workflow": workflow, "tag": tag, "job_key": key, "metadata": metadata}
    wanted = [(k, x) for k, v in named.items() if v for x in (v if isinstance(v, list) else [v])]
    if ids and wanted:
        raise CliError("name jobs and files, or give options that find jobs: not both", 2)
    found = run(data_dir, lambda c: _named(c, ids) if ids else _matching(c, wanted, limit))
    if output is Output.JSON:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    elif output is Output.CSV:
        sys.stdout.write(as_csv(rows_of(found)))
    else:
        out.print(_page(found))
    if not found:
        raise typer.Exit(4)


async def _named(client: Client, ids: list[str]) -> list[dict[str, Any]]:
    """Results of the named jobs; of a file, those of its job with that file alone. Raises `CliError` (code 4)."""
    found = []
    for id_ in ids:
        try:
            found.append(await client.call("GET", f"/v1/jobs/{id_}/results"))
        except CliError as error:
            if error.code != 4:
                raise
            file = await _file(client, id_)
            job = await client.call("GET", f"/v1/jobs/{file['job_id']}/results")
            found.append({**job, "files": [f for f in job["files"] if f["file_id"] == file["id"]]})
    return found


async def _file(client: Client, id_: str) -> dict[str, Any]:
    try:
        file: dict[str, Any] = await client.call("GET", f"/api/file/detail/{id_}")
    except CliError as error:
        raise CliError(f"no job and no file has the ID {id_}", 4) if error.code == 4 else error from None
    if not file.get("job_id"):
        raise CliError(f"file {id_} belongs to no job yet", 4)
    return file


async def _matching(client: Client, wanted: list[tuple[str, str]], limit: int) -> list[dict[str, Any]]:
    """Results of the jobs that match, newest first, page by page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        page = [("limit", str(min(200, limit - len(found)))), *([("cursor", cursor)] if cursor else [])]
        answer = await client.call("GET", "/v1/results", params=[*wanted, *page])
        found += answer["result"]
        cursor = answer["next"]
        if cursor is None:
            break
    return found


async def _save(client: Client, job_id: str, target: Path) -> None:
    """Write the job's ZIP beside `target` first, so that a broken download leaves no file that looks whole."""
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as stream:
            async for chunk in client.download(f"/v1/jobs/{job_id}/results.zip", CHUNK):
                stream.write(chunk)
        part.replace(target)
    except OSError as error:
        raise CliError(f"{target}: {error.strerror or error}", 1) from None
    finally:
        part.unlink(missing_ok=True)
    out.print(escape(str(target)))


def _page(found: list[dict[str, Any]]) -> Group:
    """What each job's steps returned, then a table of all files."""
    parts: list[Any] = []
    for job in found:
        parts.append(Text.from_markup(f"[bold]{job['job_id']}[/bold]  {job['stage']}  workflow {escape(str(job['workflow']))}"))
        parts += [Text.from_markup(f"[red]{escape(message)}[/red]") for message in job["error_messages"]]
        parts += [Text(f"  {step}: {json.dumps(result, ensure_ascii=False)}") for step, result in job["results"].items()]
        parts += [Text(f"  output: {o['file_name']}  {o['url']}") for o in job["outputs"]]
    files = rows_of([{**job, "results": {}} for job in found if job["files"]])
    if files:
        parts += [Text(), _files(files, len(found) > 1)]
    return Group(*parts) if parts else Group(Text("no results"))


def _files(rows: list[dict[str, Any]], with_job: bool) -> Table:
    more = list(dict.fromkeys(name for row in rows for name in row if name.startswith(("fields.", "results."))))
    shown = [name for name in SHOWN if (with_job or name != "job_id") and any(row.get(name) for row in rows)]
    table = Table(box=None)
    for name in (*shown, *more):
        table.add_column(name.removeprefix("fields."), no_wrap=name.endswith("_id"), overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(v)) if (v := row.get(name)) is not None else "" for name in (*shown, *more)))
    return table
