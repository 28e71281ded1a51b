"""`stageline schedules`: jobs started by cron expressions."""

from __future__ import annotations

import fnmatch
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.commands.submit import parse_metadata
from cli.groups import Listing, noun
from cli.output import show, show_rows
from cli.target import CliError, route

app = noun("Jobs started by cron expressions.", Listing)
COLUMNS: dict[str, Any] = {
    "name": "name", "cron": "cron", "time zone": "time_zone", "workflow": lambda s: s["job"]["workflow"],
    "next": lambda s: "paused" if s["paused"] else s["next_at"], "last job": "last_job_id",
}  # fmt: skip


@app.command("set")
def set_schedule(
    name: str,
    cron: str,
    time_zone: Annotated[str, typer.Option(help="Zone of the cron expression, such as Europe/Berlin")] = "UTC",
    workflow: Annotated[str, typer.Option(help="Which workflow to run")] = "documents",
    url: Annotated[list[str] | None, typer.Option(help="A remote file of each job; may repeat")] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object kept with each job")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Start no job until it is set again without this")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create or change a schedule. CRON has five fields: minute, hour, day of month, month, day of week.

    Example: stageline schedules set nightly '30 2 * * *' --time-zone Europe/Berlin --url https://files.example.com/today.pdf
    """
    body = {
        "cron": cron, "time_zone": time_zone, "workflow": workflow, "urls": url or [], "metadata": parse_metadata(metadata), "paused": paused,
    }  # fmt: skip
    answer = run(data_dir, lambda c: c.call("PUT", route("/v1/schedules/{}", name), json=body))
    show(answer, as_json, lambda: f"{name}: {cron} {time_zone}")


async def _all(client: Client) -> list[dict[str, Any]]:
    return list((await client.call("GET", "/v1/schedules"))["result"])


@app.command("list")
def list_schedules(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Only names that fit, such as 'nightly*'")] = "*",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List schedules with the time of their next job.

    Example: stageline schedules list 'nightly*'
    """
    found = [s for s in run(data_dir, _all) if fnmatch.fnmatchcase(s["name"], pattern)]
    empty = "there is no schedule yet; `stageline schedules set` makes one" if pattern == "*" else "no schedule has such a name"
    show_rows(found, COLUMNS, as_json, empty=empty)


@app.command("show")
def show_schedule(name: str, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a schedule: its times, its job, its next and last job.

    Example: stageline schedules show nightly
    """
    found = next((s for s in run(data_dir, _all) if s["name"] == name), None)
    if found is None:
        raise CliError(f"there is no schedule {name}", 4)
    following = "paused" if found["paused"] else f"next {found['next_at']}"
    last = f"last job {found['last_job_id']}" if found["last_job_id"] else "no job yet"
    head = f"{found['name']}: {found['cron']} {found['time_zone']}"
    show(found, as_json, lambda: f"{head}  workflow {found['job']['workflow']}  {following}  {last}")


@app.command("delete")
def delete_schedule(name: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a schedule. Jobs that it has started are not affected.

    Example: stageline schedules delete nightly
    """
    run(data_dir, lambda c: c.call("DELETE", route("/v1/schedules/{}", name)))
    show({"name": name, "deleted": True}, False, lambda: f"{name} is deleted")
