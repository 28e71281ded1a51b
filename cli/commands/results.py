"""`stageline results`: what came out of jobs and files, as a table, JSON, CSV or a ZIP file."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.filters import Fields, filtered
from cli.groups import Showing, noun
from cli.ids import job_id_of, job_route
from cli.output import Output, choose, chosen, grid, out, plain, show, write
from cli.target import CliError, route
from shared.web.result_table import as_csv, rows_of

SHOWN = ("job_id", "file_id", "file_name", "status", "tag", "message")
"""Fixed columns of the table for people; those of fields and results follow."""
app = noun("Results: what came out of jobs and files.", Showing)


class Form(StrEnum):
    """Formats of the results."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"
    ZIP = "zip"


@app.command("show")
@filtered
def results(
    wanted: Fields,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB|FILE]...", help="Ids, beginnings of job ids, or @last; without any, the jobs that match"),
    ] = None,
    form: Annotated[Form, typer.Option("--output", "-o", help="Format of the output")] = Form.TABLE,
    to: Annotated[Path | None, typer.Option(help="File of the ZIP; default: results-ID.zip")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Most jobs")] = 100,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what the steps of jobs returned, and the fields and outputs of their files. Exit code 4 when there is nothing.

    Example: stageline results @last --output csv
    """
    if form is Form.ZIP:
        if ids is None or len(ids) != 1:
            raise CliError("--output zip: name one job", 2)
        saved = run(data_dir, lambda c: _save(c, ids[0], to))
        out.print(Text(str(saved)), soft_wrap=True)
        return
    if ids and wanted:
        raise CliError("name jobs and files, or give options that find jobs: not both", 2)
    found = run(data_dir, lambda c: _named(c, ids) if ids else c.pages("/v1/results", wanted, limit))
    choose(Output.JSON if as_json else Output(form.value))
    if chosen() is Output.CSV:
        write(as_csv(rows_of(found)))
    else:
        show(found, False, lambda: _page(found))
    if not found:
        raise typer.Exit(4)


async def _save(client: Client, given: str, to: Path | None) -> Path:
    job_id = await job_id_of(client, given)
    target = to or Path(f"results-{job_id[:8]}.zip")
    await client.save(route("/v1/jobs/{}/results.zip", job_id), target)
    return target


async def _named(client: Client, ids: list[str]) -> list[dict[str, Any]]:
    """Results of the named jobs; of a file, those of its job with that file alone. Raises `CliError` (code 4)."""
    found = []
    for id_ in ids:
        try:
            found.append(await client.call("GET", await job_route(client, "/v1/jobs/{}/results", id_)))
        except CliError as error:
            if error.code != 4:
                raise
            file = await _file(client, id_)
            job = await client.call("GET", route("/v1/jobs/{}/results", file["job_id"]))
            found.append({**job, "files": [f for f in job["files"] if f["file_id"] == file["id"]]})
    return found


async def _file(client: Client, id_: str) -> dict[str, Any]:
    try:
        file: dict[str, Any] = await client.call("GET", route("/api/file/detail/{}", id_))
    except CliError as error:
        raise CliError(f"no job and no file has the ID {id_}", 4) if error.code == 4 else error from None
    if not file.get("job_id"):
        raise CliError(f"file {id_} belongs to no job yet", 4)
    return file


def _page(found: list[dict[str, Any]]) -> Group:
    """What each job's steps returned, then a table of all files."""
    parts: list[Any] = []
    for job in found:
        parts.append(Text.assemble((job["job_id"], "bold"), f"  {job['stage']}  workflow {plain(job['workflow'])}"))
        parts += [Text(plain(message), "red") for message in job["error_messages"]]
        parts += [Text(f"  {step}: {json.dumps(result, ensure_ascii=False)}") for step, result in job["results"].items()]
        parts += [Text(f"  output: {o['file_name']}  {o['url']}") for o in job["outputs"]]
    files = rows_of([{**job, "results": {}} for job in found if job["files"]])
    if files:
        parts += [Text(), _files(files, len(found) > 1)]
    return Group(*parts) if parts else Group(Text("no results"))


def _files(rows: list[dict[str, Any]], with_job: bool) -> Table | Text:
    more = list(dict.fromkeys(name for row in rows for name in row if name.startswith(("fields.", "results."))))
    shown = [name for name in SHOWN if (with_job or name != "job_id") and any(row.get(name) for row in rows)]
    # The id of the file first: `grid` never cuts the first column.
    names = sorted((*shown, *more), key=lambda name: name != "file_id")
    return grid([[plain(row.get(name)) for name in names] for row in rows], [name.removeprefix("fields.") for name in names])
