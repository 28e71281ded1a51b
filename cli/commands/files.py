"""`stageline files`: list, show and search files, read their text, download their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.groups import Listing, noun
from cli.ids import job_id_of
from cli.output import plain, show, show_rows, write
from cli.target import CliError, route

app = noun("Files: list, show and search them, read their text, download what was made of them.", Listing)
FileId = Annotated[str, typer.Argument(metavar="FILE", help="Its id")]
COLUMNS: dict[str, Any] = {
    "file": "id", "name": lambda f: f.get("file_name"), "status": "status", "tag": lambda f: f.get("tag_name") or f.get("tag"),
    "job": "job_id", "message": "message",
}  # fmt: skip


@app.command("list")
def list_files(
    job_id: Annotated[str | None, typer.Option("--job", help="Files of this job: id, beginning of an id, or @last")] = None,
    status: Annotated[str | None, typer.Option(help="Only files in this status, such as failed")] = None,
    name: Annotated[str | None, typer.Option("--file-name", help="Only files whose name fits, such as '*.pdf'")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Most files")] = 20,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List files, newest first; or those of one job.

    Example: stageline files list --job @last --status failed
    """
    import fnmatch

    def fits(file: dict[str, Any]) -> bool:
        return (status is None or file["status"] == status) and (
            name is None or fnmatch.fnmatch(str(file.get("file_name")), name)
        )

    async def work(client: Client) -> list[dict[str, Any]]:
        if job_id:
            job = await client.call("GET", route("/v1/jobs/{}", await job_id_of(client, job_id)))
            return [file for file in job["files"] if fits(file)][:limit]
        found: list[dict[str, Any]] = []
        page = 1
        while len(found) < limit:
            answer = await client.call("GET", "/api/file/all", params={"pageSize": "100", "currentPage": str(page)})
            found += [file for file in answer["result"] if fits(file)]
            if len(answer["result"]) < 100:
                break
            page += 1
        return found[:limit]

    show_rows(run(data_dir, work), COLUMNS, as_json, empty="no file matches")


@app.command("show")
def show_file(file_id: FileId, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a file: its status, tag, fields and outputs.

    Example: stageline files show 0b1c2d3e-4f50-5a61-8b72-9c83ad94be05
    """
    found = run(data_dir, lambda c: c.call("GET", route("/v1/files/{}", file_id)))

    def people() -> str:
        return "\n".join(f"{name:<16} {plain(value)}" for name, value in found.items() if value not in (None, "", [], {}))

    show(found, as_json, people)


@app.command()
def text(file_id: FileId, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print the text of a file. Form feeds separate its pages.

    Example: stageline files text 0b1c2d3e-4f50-5a61-8b72-9c83ad94be05
    """
    write(run(data_dir, lambda c: c.call("GET", route("/v1/files/{}/text", file_id))) + "\n")


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="Words that the file contains; word* matches beginnings")],
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Find files that contain all the words; `word*` matches prefixes. Exit code 4 when nothing matches.

    Example: stageline files search hydraulic 'pump*'
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/search", params={"q": " ".join(words)}))["result"]
    columns = {"file": "file_id", "name": "file_name", "where": "snippet"}
    show_rows(found, columns, as_json, empty="no file contains all these words")
    if not found:
        raise typer.Exit(4)


@app.command()
def download(
    file_id: FileId,
    number: Annotated[int, typer.Option("--number", min=1, max=1000, help="Which of its outputs, from 1")] = 1,
    to: Annotated[Path | None, typer.Option(help="File to write; default: the output's own name, here")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Download an output of a file. A file that exists is not overwritten.

    Example: stageline files download 0b1c2d3e-4f50-5a61-8b72-9c83ad94be05 --to searchable.pdf
    """

    async def work(client: Client) -> Path:
        record = await client.call("GET", route("/v1/files/{}", file_id))
        made = record.get("outputs") or []
        if number > len(made):
            raise CliError(f"{file_id} has {len(made)} outputs", 4)
        # The name alone: it came from elsewhere and must not lead out of this folder.
        target = to or Path(Path(str(made[number - 1]["file_name"]).replace("\\", "/")).name or "output")
        if target.exists():
            raise CliError(f"{target} exists: name another file with --to", 2)
        await client.save(route("/v1/files/{}/outputs/{}", file_id, str(number)), target)
        return target

    target = run(data_dir, work)
    show({"file": str(target)}, False, lambda: str(target))
