"""`stageline bulk`: apply one operation to every job that a filter matches."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.client import Client, CliError
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, run, show
from cli.commands.submit import parse_metadata

app = typer.Typer(help="Apply one operation to many jobs: counted first, rate limited, resumable, audited.", no_args_is_help=True)


def _filter(where: list[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for pair in where:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CliError("--where: field=value is expected", 2)
        if name in ("stage", "metadata"):
            wanted.setdefault(name, []).append(value)
        else:
            wanted[name] = value
    return wanted


@app.command("start")
def start(
    verb: Annotated[str, typer.Argument(help="cancel, terminate, pause, resume, retry or rerun")],
    where: Annotated[list[str], typer.Option(help="field=value as in GET /v1/jobs, e.g. stage=failed; may repeat")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the matching jobs")] = False,
    rate: Annotated[float, typer.Option(help="Jobs per second")] = 50.0,
    options: Annotated[str, typer.Option(help='JSON object for rerun, e.g. {"only": "failed"}')] = "{}",
    watching: Annotated[bool, typer.Option("--watch", help="Wait until the run has ended")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Apply VERB to every job that matches now."""
    wanted = _filter(where)
    body = {
        "verb": verb,
        "filter": wanted,
        "dry_run": dry_run,
        "rate_per_s": rate,
        "reason": reason,
        "options": parse_metadata(options, "--options") or {},
    }

    async def work(client: Client) -> dict[str, Any]:
        made: dict[str, Any] = await client.call("POST", "/v1/bulk", json=body)
        while watching and made.get("state") == "running":
            await asyncio.sleep(0.5)
            made = await client.call("GET", f"/v1/bulk/{made['id']}")
        return made

    made = run(data_dir, work)
    plain = (
        f"{made['count']} jobs match"
        if dry_run
        else f"{made['id']}: {made['state']}, {made['done']} done, {made['refused']} refused"
    )
    show(made, as_json, lambda: plain)


@app.command("list")
def listed(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List bulk runs, newest first."""
    found = run(data_dir, lambda c: c.call("GET", "/v1/bulk"))["result"]

    def plain() -> Table:
        table = Table("run", "verb", "state", "jobs", "done", "refused", "by", "reason", "started", box=None)
        for b in found:
            started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(b["created_at"]))
            table.add_row(
                b["id"], b["verb"], b["state"], str(b["count"]), str(b["done"]), str(b["refused"]), b["by"], b["reason"], started
            )
        return table

    show(found, as_json, plain)


@app.command("stop")
def stop(bulk_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop a bulk run. Finished operations stay; `stageline bulk resume` continues the run."""
    run(data_dir, lambda c: c.call("POST", f"/v1/bulk/{bulk_id}/stop"))


@app.command("resume")
def resume(bulk_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Continue a stopped bulk run."""
    run(data_dir, lambda c: c.call("POST", f"/v1/bulk/{bulk_id}/resume"))
