"""`stageline approvals`: what waits for a person, and the answers."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run, show
from cli.commands.submit import parse_metadata
from cli.groups import Listing, noun
from cli.ids import JobId, job_id_of
from cli.target import CliError, route
from cli.waiting import span

app = noun("Approvals: what waits for a person, and the answers.", Listing)
Step = Annotated[str | None, typer.Option(help="The step; needed where several steps of the job wait")]
File = Annotated[str | None, typer.Option("--file", help="Only this file of the job; default: all that wait at the step")]
Message = Annotated[str | None, typer.Option(help="Kept with the step's result")]


@app.command("list")
def list_approvals(
    limit: Annotated[int, typer.Option(min=1, max=200, help="Jobs that are looked at, the oldest first")] = 100,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the steps that wait for a person, the longest wait first.

    Example: stageline approvals list
    """
    found = run(data_dir, lambda c: c.call("GET", f"/v1/approvals?limit={limit}"))
    show(found, as_json, lambda: page_of(found))


def page_of(found: dict[str, Any]) -> Group:
    """A row for each approval, and what is not known."""
    table = Table("job", "step", "file", "workflow", "since", "waits for", "ends", box=None)
    for x in found["result"]:
        waited = "" if x["since"] is None else span(time.time() - datetime.fromisoformat(x["since"]).timestamp())
        cells = (
            x["job_id"],
            x["step"],
            x["file_id"] or "",
            str(x["workflow"]),
            x["since"] or "unknown",
            waited,
            x["due_at"] or "",
        )
        table.add_row(*map(escape, cells))
    lines = [] if found["result"] else ["nothing waits for an approval"]
    lines += [f"the orchestrator did not answer about {job_id}" for job_id in found["unknown"]]
    lines += ["more jobs may wait: see --limit"] if found["more"] else []
    return Group(*([table] if found["result"] else []), *map(Text, lines))


@app.command("approve")
def approve(
    job_id: JobId,
    step: Step = None,
    file: File = None,
    message: Message = None,
    data: Annotated[str | None, typer.Option(help="JSON object: the step's result")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Approve a step that waits: its job goes on.

    Example: stageline approvals approve JOB_ID --message 'checked by phone'
    """
    _answer(
        job_id, step, file, {"outcome": "OK", "message": message, "data": parse_metadata(data, "--data") or {}}, as_json, data_dir
    )


@app.command("refuse")
def refuse(
    job_id: JobId,
    step: Step = None,
    file: File = None,
    message: Message = None,
    code: Annotated[str | None, typer.Option(help="The error code of the step, which rules of the workflow may name")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Refuse a step that waits: the step fails, and its workflow says what follows.

    Example: stageline approvals refuse JOB_ID --message 'wrong amount'
    """
    _answer(job_id, step, file, {"outcome": "KO", "message": message, "code": code}, as_json, data_dir)


def _answer(job_id: str, step: str | None, file: str | None, answer: dict[str, Any], as_json: bool, data_dir: Path) -> None:
    async def work(client: Client) -> dict[str, Any]:
        whole = await job_id_of(client, job_id, changes=True)
        # A poke without a step would answer every step that waits, also those that wait for a program.
        named = step or step_of(whole, await client.call("GET", route("/v1/jobs/{}/why", whole)))
        found = await client.call("POST", route("/v1/jobs/{}/poke", whole), json={**answer, "step": named, "file_id": file})
        return {**found, "id": whole, "step": named}

    found = run(data_dir, work)
    done = "approved" if answer["outcome"] == "OK" else "refused"
    show(found, as_json, lambda: f"{found['id']}: {found['step']} {done}; the job is {found['stage']}")


def step_of(job_id: str, explanation: dict[str, Any]) -> str:
    """The one step that waits for an approval, by the explanation why the job waits. Raises `CliError` where there is not exactly one."""
    steps = sorted({str(one["step"]) for one in explanation["facts"].get("approvals", ())})
    if not steps:
        raise CliError(f"{job_id} waits for no approval: {explanation['message']}", 5)
    if len(steps) > 1:
        raise CliError(f"several steps wait, name one with --step: {', '.join(steps)}", 2)
    return steps[0]
