"""`stageline`: run the pipeline on this machine, submit documents, follow what happens.

Exit codes: 0 done · 1 a job ended failed, invalid or cancelled, or a start failed · 2 wrong usage · 3 unreachable ·
4 not found · 5 refused.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.client import Client, CliError
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, out, run, show
from cli.commands import (
    accounts,
    approvals,
    bulk,
    environment,
    kafka,
    letters,
    new,
    operate,
    pipeline,
    results,
    schedules,
    secrets,
    status,
    verify,
    webhooks,
    workers,
    workflows,
)
from cli.commands.submit import ENDS, file_table, find_files, parse_metadata, render, submit_files, submit_urls, watch
from cli.groups import Root

app = typer.Typer(
    help="Stageline: a Kafka-native document-job pipeline.", cls=Root, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(kafka.app, name="kafka")
app.add_typer(workflows.app, name="workflows")
app.add_typer(schedules.app, name="schedules")
app.add_typer(bulk.app, name="bulk")
app.add_typer(letters.app, name="letters")
app.add_typer(approvals.app, name="approvals")
app.add_typer(workers.app, name="workers")
app.add_typer(secrets.app, name="secrets")
app.add_typer(new.app, name="new")
accounts.register(app)
operate.register(app)
app.command()(pipeline.up)
app.command()(pipeline.down)
app.command()(pipeline.reset)
app.command()(pipeline.doctor)
app.command()(status.status)
app.command()(verify.verify)
app.command()(environment.env)
app.command()(results.results)


@app.command()
def submit(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders")] = None,
    url: Annotated[list[str] | None, typer.Option(help="A remote file; may repeat")] = None,
    workflow: Annotated[str, typer.Option(help="Which workflow to run")] = "documents",
    metadata: Annotated[str | None, typer.Option(help="JSON object kept with the job")] = None,
    watching: Annotated[bool, typer.Option("--watch", help="Show progress until the job ends")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Submit documents as one job. With --watch, the exit code is 1 unless the job completed."""
    files = find_files(paths or [])
    if not files and not url:
        raise CliError("nothing to submit: name files, folders or --url", 2)
    if files and url:
        raise CliError("files and --url make separate jobs: submit them one after the other", 2)
    request = {"workflow": workflow, "metadata": parse_metadata(metadata)}

    async def work(client: Client) -> dict[str, Any]:
        job_id = await (submit_files(client, files, request) if files else submit_urls(client, url or [], request))
        if not watching:
            return {"id": job_id}
        return (await watch(client, [job_id], out, live=out.is_terminal and not as_json))[0]

    started = time.monotonic()
    job = run(data_dir, work)
    elapsed = time.monotonic() - started
    show(job, as_json, lambda: render([job], elapsed, 10_000) if watching and not out.is_terminal else job["id"])
    if watching and job["stage"] != "completed":
        raise typer.Exit(1)


@app.command()
def jobs(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List jobs, newest first."""
    found = run(data_dir, lambda c: c.call("GET", f"/api/job/all?pageSize={limit}"))

    def plain() -> Table:
        table = Table("job", "stage", "files", "workflow", "created", box=None)
        for j in found["result"]:
            table.add_row(j["id"], j["stage"], f"{j['finished_files']}/{j['file_count']}", str(j["workflow"]), j["creation_date"])
        return table

    show(found["result"], as_json, plain)


@app.command()
def job(job_id: str, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a job: its stages, attempts and files, and why it is waiting."""

    async def work(client: Client) -> dict[str, Any]:
        record = await client.call("GET", f"/v1/jobs/{job_id}")
        history = await client.call("GET", f"/v1/jobs/{job_id}/history?limit=1000")
        return {**record, "history": history["result"]}

    found = run(data_dir, work)
    show(found, as_json, lambda: pipeline.job_page(found, file_table(found["files"], 200, ids=True)))


@app.command()
def text(file_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Print the text of a file."""
    sys.stdout.write(run(data_dir, lambda c: c.call("GET", f"/v1/files/{file_id}/text")) + "\n")


@app.command()
def search(words: list[str], as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Find files that contain all the words; `word*` matches prefixes. Exit code 4 when nothing matches."""
    found = run(data_dir, lambda c: c.call("GET", "/v1/search", params={"q": " ".join(words)}))["result"]

    def plain() -> Table:
        table = Table("file", "name", "where", box=None)
        for hit in found:
            table.add_row(hit["file_id"], hit["file_name"], hit["snippet"].replace("[", r"\["))
        return table

    show(found, as_json, plain)
    if not found:
        raise typer.Exit(4)


@app.command()
def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new events")] = False,
    job_id: Annotated[str | None, typer.Option("--job")] = None,
    types: Annotated[str, typer.Option(help="Names or patterns, e.g. job.*,file.done")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print all retained events. With --follow, continue with new ones."""

    async def work(client: Client) -> None:
        async for event in client.events("beginning", types, job_id, follow):
            line = json.dumps(event, ensure_ascii=False) if as_json else pipeline.event_line(event)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    run(data_dir, work)


@app.command()
def cancel(
    job_id: str,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Cancel a job. Its running workers are notified."""
    answer = run(data_dir, lambda c: c.call("POST", f"/v1/jobs/{job_id}/cancel", json={"reason": reason}))
    show(answer, as_json, lambda: f"{job_id}: {answer['stage']}")


def main() -> None:
    """Entry point of the `stageline` command."""
    try:
        app()
    except CliError as error:
        sys.stderr.write(f"stageline: {error}\n")
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["ENDS", "main"]
