"""`stageline schedules`: jobs started by cron expressions."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run, show
from cli.commands.submit import parse_metadata

app = typer.Typer(help="Jobs started by cron expressions.", no_args_is_help=True)


@app.command("set")
def set_schedule(
    name: str,
    cron: str,
    time_zone: Annotated[str, typer.Option()] = "UTC",
    workflow: Annotated[str, typer.Option()] = "documents",
    url: Annotated[list[str] | None, typer.Option(help="A remote file of each job; may repeat")] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object kept with each job")] = None,
    paused: Annotated[bool, typer.Option("--paused")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create or change a schedule. CRON has five fields: minute, hour, day of month, month, day of week."""
    body = {
        "cron": cron, "time_zone": time_zone, "workflow": workflow, "urls": url or [], "metadata": parse_metadata(metadata), "paused": paused,
    }  # fmt: skip
    answer = run(data_dir, lambda c: c.call("PUT", f"/v1/schedules/{name}", json=body))
    show(answer, as_json, lambda: f"{name}: {cron} {time_zone}")


@app.command("list")
def list_schedules(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List schedules with the time of their next job."""
    found = run(data_dir, lambda c: c.call("GET", "/v1/schedules"))["result"]

    def plain() -> Table:
        table = Table("name", "cron", "time zone", "workflow", "next", "last job", box=None)
        for s in found:
            following = "paused" if s["paused"] else str(s["next_at"])
            table.add_row(s["name"], s["cron"], s["time_zone"], s["job"]["workflow"], following, s["last_job_id"] or "")
        return table

    show(found, as_json, plain)


@app.command("delete")
def delete_schedule(name: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a schedule. Jobs that it has started are not affected."""
    run(data_dir, lambda c: c.call("DELETE", f"/v1/schedules/{name}"))
