"""Commands of an operator: why, backlog, answers to waiting steps, controls, audit."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, run
from cli.commands.submit import parse_metadata
from cli.ids import JobId, job_id_of, job_route
from cli.output import Output, chosen, show, show_rows
from cli.target import CliError, route
from cli.waiting import reason_line, span


def why(job_id: JobId, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Explain why a job or an open session is waiting, and until when.

    Example: stageline why @last
    """

    async def work(client: Client) -> Any:
        id_ = await job_id_of(client, job_id)
        return id_, await client.call("GET", route("/v1/jobs/{}/why", id_))

    id_, found = run(data_dir, work)
    show(found, as_json, lambda: Text.from_markup(reason_line(found)), id_)


def backlog(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show waiting and running tasks by action and tenant, live workers, and when the backlog will be empty.

    Example: stageline backlog
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/backlog"))
    columns: dict[str, str | Callable[[Any], Any]] = {
        "action": "action", "tenant": "tenant_id", "waiting": "waiting", "oldest": lambda x: span(x["oldest_age_s"]),
        "in flight": "in_flight", "in/s": lambda x: f"{x['arrival_per_s']:.1f}", "out/s": lambda x: f"{x['service_per_s']:.1f}",
        "empty": lambda x: "" if x["drained_at"] is None else f"in {span(x['drained_at'] - time.time())}", "workers": live_workers, "wasted": "wasted",
        "gate": lambda x: x["gate"] if x["gate"] == "open" else f"{x['gate']} ({x['gate_message']})",
    }  # fmt: skip
    if chosen(as_json) in (Output.JSON, Output.YAML):
        show(found, as_json, str)
    else:
        show_rows(found["lines"], columns, empty="no task waits or runs")


def live_workers(line: dict[str, Any]) -> str:
    """How many workers of a line of the backlog are alive; where none is, since when."""
    since = line["no_worker_since"]
    if since is None:
        return str(line["workers"])
    if since == "ever":
        return "no worker ever"
    return f"no worker since {since} ({span(time.time() - datetime.fromisoformat(since).timestamp())})"


def poke(
    job_id: JobId,
    step: Annotated[str | None, typer.Option(help="The waiting step; default: all waiting steps")] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Answer KO instead of OK")] = False,
    code: Annotated[str | None, typer.Option(help="Code of the answer")] = None,
    message: Annotated[str | None, typer.Option(help="Message of the answer")] = None,
    data: Annotated[str | None, typer.Option(help="JSON object: the step's result")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Answer a waiting step: an approval, or an event from outside.

    Example: stageline poke @last --step approve --message 'checked by phone'
    """
    body = {
        "step": step,
        "outcome": "KO" if refuse else "OK",
        "code": code,
        "message": message,
        "data": parse_metadata(data, "--data") or {},
    }

    async def work(client: Client) -> Any:
        return await client.call("POST", await job_route(client, "/v1/jobs/{}/poke", job_id, changes=True), json=body)

    answer = run(data_dir, work)
    show(answer, as_json, lambda: f"{job_id}: {answer['stage']}")


def control(
    what: Annotated[str, typer.Argument(help="action:NAME or tenant:ID")],
    pause: Annotated[bool | None, typer.Option("--pause/--resume", help="Stop or start dispatching its tasks")] = None,
    limit: Annotated[int | None, typer.Option(help="Tasks that workers may hold at a time; -1: no limit")] = None,
    rate: Annotated[float | None, typer.Option(help="Tasks per second; -1: no limit")] = None,
    weight: Annotated[float | None, typer.Option(help="A tenant's share of the capacity while tasks wait")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Pause, limit or weight an action or a tenant at run time.

    Example: stageline control action:text.extract --limit 4 --reason 'the OCR host is slow'
    """
    kind, _, name = what.partition(":")
    if kind not in ("action", "tenant") or not name:
        raise CliError("what: action:NAME or tenant:ID is expected", 2)
    given = {"paused": pause, "limit": limit, "rate_per_s": rate, "weight": weight}
    body: dict[str, Any] = {k: None if v == -1 and v is not True else v for k, v in given.items() if v is not None}
    answer = run(data_dir, lambda c: c.call("PUT", route("/v1/controls/{}/{}", kind, name), json={**body, "reason": reason}))
    show(answer, as_json, lambda: f"{what}: " + (", ".join(f"{k} {v}" for k, v in body.items()) or "unchanged"))


def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Most lines")] = 50,
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify the chain of hashes over all lines instead of showing them")
    ] = False,
    head: Annotated[str | None, typer.Option(help="With --verify: the head that an earlier run printed")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the audit log, newest entry first, or verify it. Exit code 1: the chain is broken.

    Example: stageline audit --limit 100
    """
    if verify or head:
        _verify_audit(head, as_json, data_dir)
        return
    found = run(data_dir, lambda c: c.call("GET", "/v1/audit", params={"limit": str(limit)}))["result"]
    columns: dict[str, str | Callable[[Any], Any]] = {
        "when": "occurred_at", "who": "by", "verb": lambda a: a["verb"] + (f" ({a['count']} times)" if a.get("count") else ""),
        "subject": "subject", "done": lambda a: "yes" if a["ok"] else f"no: {a['message'] or a['code']}", "reason": "reason",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="the audit log is empty")


def _verify_audit(head: str | None, as_json: bool, data_dir: Path) -> None:
    found = run(data_dir, lambda c: c.call("GET", "/v1/audit/verification", params={"head": head} if head else {}))
    broken = found["broken"]

    def plain() -> str:
        if broken is not None:
            return f"broken at line {broken['seq']}: {broken['reason']}"
        waiting = f", {found['unchained']} of an older release not in the chain yet" if found["unchained"] else ""
        return f"{found['rows']} lines from number {found['first']}, whole{waiting}; head {found['head']}"

    show(found, as_json, plain)
    if broken is not None:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the operator's commands to `app`."""
    for command in (why, backlog, poke, control, audit):
        app.command()(command)
