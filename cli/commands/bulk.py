"""`stageline bulk`: apply one operation to every job that a filter matches."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, run
from cli.commands.submit import parse_metadata
from cli.filters import Fields, as_filter, filtered
from cli.groups import Listing, noun
from cli.output import moment, notes, show, show_rows
from cli.progress import progress
from cli.target import CliError, route

app = noun("Apply one operation to many jobs: counted first, rate limited, resumable, audited.", Listing)


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
@filtered
def start(
    wanted: Fields,
    verb: Annotated[str, typer.Argument(help="cancel, terminate, pause, resume, retry or rerun")],
    where: Annotated[
        list[str] | None, typer.Option(help="field=value as in GET /v1/jobs: the options of `jobs list` as fields; may repeat")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the matching jobs")] = False,
    rate: Annotated[float, typer.Option(help="Jobs per second")] = 50.0,
    options: Annotated[str, typer.Option(help='JSON object for rerun, e.g. {"only": "failed"}')] = "{}",
    watching: Annotated[bool, typer.Option("--watch", help="Wait until the run has ended")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Apply VERB to every job that matches now.

    Example: stageline bulk start rerun --stage failed --since 2d --options '{"only": "failed"}' --dry-run
    """
    chosen = {**as_filter(wanted), **_filter(where or [])}
    if not chosen:
        raise CliError("which jobs? Give an option that chooses them, such as --stage failed", 2)
    more = parse_metadata(options, "--options") or {}
    body = {"verb": verb, "filter": chosen, "dry_run": dry_run, "rate_per_s": rate, "reason": reason, "options": more}
    made = run(data_dir, lambda c: _start(c, body, watching))
    show(made, as_json, lambda: f"{made['count']} jobs match" if dry_run else _line(made))


async def _start(client: Client, body: dict[str, Any], watching: bool) -> dict[str, Any]:
    made: dict[str, Any] = await client.call("POST", "/v1/bulk", json=body)
    try:
        return await _ended(client, made) if watching else made
    except asyncio.CancelledError:
        notes.print(f"bulk run {made['id']} goes on; see `stageline bulk show {made['id']}`", markup=False)
        raise


def _line(made: dict[str, Any]) -> str:
    return f"{made['id']}: {made['state']}, {made['done']} done, {made['refused']} refused"


async def _ended(client: Client, made: dict[str, Any]) -> dict[str, Any]:
    with progress("done", "jobs") as report:
        while made.get("state") == "running":
            await asyncio.sleep(0.5)
            made = await client.call("GET", route("/v1/bulk/{}", made["id"]))
            report(made["done"] + made["refused"], made["count"])
    return made


@app.command("list")
def listed(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List bulk runs, newest first.

    Example: stageline bulk list
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/bulk"))["result"]
    columns: dict[str, Any] = {
        "run": "id", "verb": "verb", "state": "state", "jobs": "count", "done": "done", "refused": "refused", "by": "by",
        "reason": "reason", "started": lambda b: moment(b["created_at"]),
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="there is no bulk run yet")


@app.command("show")
def shown(bulk_id: str, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show a bulk run.

    Example: stageline bulk show 3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f
    """
    found = run(data_dir, lambda c: c.call("GET", route("/v1/bulk/{}", bulk_id)))
    show(found, as_json, lambda: _line(found))


@app.command("stop")
def stop(bulk_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop a bulk run. Finished operations stay; `stageline bulk resume` continues the run.

    Example: stageline bulk stop 3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f
    """
    run(data_dir, lambda c: c.call("POST", route("/v1/bulk/{}/stop", bulk_id)))
    show({"id": bulk_id, "stopped": True}, False, lambda: f"{bulk_id} is stopped")


@app.command("resume")
def resume(bulk_id: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Continue a stopped bulk run.

    Example: stageline bulk resume 3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f
    """
    run(data_dir, lambda c: c.call("POST", route("/v1/bulk/{}/resume", bulk_id)))
    show({"id": bulk_id, "resumed": True}, False, lambda: f"{bulk_id} goes on")
