"""`stageline jobs`: list, show, watch, operate on, export and erase jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, Yes, run
from cli.commands.confirm import confirm
from cli.commands.job_page import job_page
from cli.commands.submit import file_grid, parse_metadata, render, watch_until_ended
from cli.filters import Fields, filtered
from cli.groups import Listing, noun
from cli.ids import JobId, job_id_of, job_route, remember
from cli.job_history import history_of
from cli.output import Output, chosen, moment, out, show, show_rows
from cli.target import CliError, route
from cli.waiting import span

app = noun("Jobs: list and watch them, see why they wait, cancel, rerun, export and erase them.", Listing)


def since(at: float | None) -> str:
    """How long ago a job came to its stage, for people; the time itself in CSV."""
    return "" if at is None else moment(at) if chosen() is Output.CSV else span(time.time() - at)


NONE = "no job matches; `stageline submit FILE` makes one"
COLUMNS: dict[str, str | Callable[[Any], Any]] = {
    "job": "id",
    "stage": "stage",
    "since": lambda j: since(j.get("stage_since")),
    "files": lambda j: f"{j['finished_files']}/{j['file_count']}",
    "workflow": "workflow",
    "created": "creation_date",
    "error": lambda j: (j.get("error_messages") or [""])[-1],
}


@app.command("list")
@filtered
def list_jobs(
    wanted: Fields,
    query: Annotated[str | None, typer.Option(help="Name of a saved search; excludes the other options")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Most jobs")] = 20,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List jobs, newest first. Without options it lists the newest 20.

    Example: stageline jobs list --stage failed --since 2d --metadata customer=7
    """
    if query and wanted:
        raise CliError("--query excludes the other options", 2)
    path = route("/v1/queries/{}/jobs", query) if query else "/v1/jobs"
    show_rows(run(data_dir, lambda c: c.pages(path, wanted, limit)), COLUMNS, as_json, empty=NONE)


@filtered
def find(
    wanted: Fields,
    query: Annotated[str | None, typer.Option(help="Name of a saved search; excludes the other options")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Most jobs")] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Find the jobs that match every given option. Exit code 4 when none does.

    Example: stageline find --stage failed --error-code encrypted
    """
    if query and wanted:
        raise CliError("--query excludes the other options", 2)
    path = route("/v1/queries/{}/jobs", query) if query else "/v1/jobs"
    found = run(data_dir, lambda c: c.pages(path, wanted, limit))
    show_rows(found, COLUMNS, as_json, empty=NONE)
    if not found:
        raise typer.Exit(4)


@app.command("show")
def show_job(job_id: JobId, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a job: its stages, attempts and files, and why it is waiting.

    Example: stageline jobs show @last
    """

    async def work(client: Client) -> dict[str, Any]:
        id_ = await job_id_of(client, job_id)
        record = await client.call("GET", route("/v1/jobs/{}", id_))
        return {**record, "history": await history_of(client, id_)}

    found = run(data_dir, work)
    show(found, as_json, lambda: job_page(found, file_grid(found["files"])))


@app.command("watch")
def watch_jobs(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, beginnings of ids, or @last")],
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show jobs until they have ended. Exit code 1 unless all completed. Ctrl-C ends the watching, never the job.

    Example: stageline jobs watch @last
    """
    live = out.is_terminal and chosen(as_json) is Output.TABLE
    started = time.monotonic()

    async def work(client: Client) -> list[dict[str, Any]]:
        ids = [await job_id_of(client, given) for given in job_ids]
        return await watch_until_ended(client, ids, out, live)

    found = run(data_dir, work)
    one = found[0] if len(found) == 1 else found
    if not live:
        show(one, as_json, lambda: render(found, time.monotonic() - started, 10_000))
    if any(job["stage"] != "completed" for job in found):
        raise typer.Exit(1)


def verb(word: str, help_: str, example: str) -> Callable[..., None]:
    """The command of an operation on one job, such as `pause`."""

    def command(job_id: JobId, reason: Reason = "", as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
        async def work(client: Client) -> Any:
            path = await job_route(client, "/v1/jobs/{}/" + word, job_id, changes=True)
            return await client.call("POST", path, json={"reason": reason})

        answer = run(data_dir, work)
        paused = f", paused by {answer['paused']['by']}" if answer.get("paused") else ""
        show(answer, as_json, lambda: f"{answer.get('id', job_id)}: {answer['stage']}{paused}")

    command.__doc__ = f"{help_}\n\nExample: {example}"
    return command


cancel = verb("cancel", "Cancel a job. Its running workers are notified.", "stageline jobs cancel 3f2a91c0 --reason 'sent twice'")
VERBS: dict[str, Callable[..., None]] = {
    "cancel": cancel,
    "pause": verb("pause", "Stop dispatching a job's tasks until it is resumed.", "stageline jobs pause @last"),
    "resume": verb("resume", "Resume a paused job.", "stageline jobs resume @last"),
    "retry": verb("retry", "Start a job's next attempts now, without their back-off.", "stageline jobs retry @last"),
    "terminate": verb("terminate", "Fail a job at once, without its rescue steps.", "stageline jobs terminate 3f2a91c0"),
}
for _word, _command in VERBS.items():
    app.command(_word)(_command)


@app.command()
def rerun(
    job_id: JobId,
    from_step: Annotated[str | None, typer.Option("--from", help="The step to start at; default: the first")] = None,
    only: Annotated[str, typer.Option(help="all, failed, or changed")] = "all",
    file: Annotated[list[str] | None, typer.Option(help="Only this file; may repeat")] = None,
    version: Annotated[int | None, typer.Option(help="Another version of the workflow")] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object that replaces the job's metadata")] = None,
    args: Annotated[str | None, typer.Option(help="JSON object: step → settings")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Run an ended job again as a new job. Results of unchanged steps are reused.

    Example: stageline jobs rerun @last --only failed
    """
    body: dict[str, Any] = {"only": only, "reason": reason, "file_ids": file or []}
    more = {
        "from_step": from_step,
        "workflow_version": version,
        "metadata": parse_metadata(metadata),
        "args": parse_metadata(args, "--args"),
    }
    body |= {k: v for k, v in more.items() if v is not None}

    async def work(client: Client) -> Any:
        made = await client.call("POST", await job_route(client, "/v1/jobs/{}/rerun", job_id, changes=True), json=body)
        remember(client.target, made["job_id"])
        return made

    answer = run(data_dir, work)
    show(answer, as_json, lambda: answer["job_id"])


@app.command()
def erase(job_id: JobId, reason: Reason = "", yes: Yes = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Erase an ended job with its files, texts, results and history. It cannot be brought back.

    Example: stageline jobs erase 3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f --yes
    """

    async def work(client: Client) -> str:
        id_ = await job_id_of(client, job_id, changes=True)
        confirm(f"Erase job {id_} with its files and history?", yes)
        await client.call("DELETE", route("/v1/jobs/{}", id_), params={"reason": reason} if reason else {})
        return id_

    erased = run(data_dir, work)
    show({"id": erased, "erased": True}, False, lambda: f"{erased} is erased")


@app.command()
@filtered
def export(
    wanted: Fields,
    to: Annotated[Path | None, typer.Option(help="File to write, one JSON object per line; default: standard output")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="Most jobs")] = 1_000_000,
    history: Annotated[bool, typer.Option("--history", help="Add all events of each job")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write jobs that match as JSON lines, newest first, each with its files. Errors leave no half file.

    Example: stageline jobs export --since 7d --to jobs.jsonl
    """
    from cli.commands.export import lines_of

    count = run(data_dir, lambda c: lines_of(c, wanted, limit, history, to))
    if to is not None:
        show({"file": str(to), "jobs": count}, False, lambda: f"{to}: {count} jobs")
