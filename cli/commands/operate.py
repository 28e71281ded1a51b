"""Commands of an operator: why, backlog, find, operations on one job, controls, audit."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import CliError
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, Reason, run, show
from cli.commands.submit import parse_metadata
from cli.waiting import reason_line, span


def why(job_id: str, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Explain why a job or an open session is waiting, and until when."""
    found = run(data_dir, lambda c: c.call("GET", f"/v1/jobs/{job_id}/why"))
    show(found, as_json, lambda: reason_line(found))


def backlog(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show waiting and running tasks by action and tenant, live workers, and when the backlog will be empty."""
    found = run(data_dir, lambda c: c.call("GET", "/v1/backlog"))

    def plain() -> Table:
        columns = ("action", "tenant", "waiting", "oldest", "in flight", "in/s", "out/s", "empty", "workers", "wasted", "gate")
        table = Table(*columns, box=None)
        for x in found["lines"]:
            drained = "" if x["drained_at"] is None else f"in {span(x['drained_at'] - time.time())}"
            gate = x["gate"] if x["gate"] == "open" else f"{x['gate']} ({x['gate_message']})"
            table.add_row(
                x["action"], x["tenant_id"], str(x["waiting"]), span(x["oldest_age_s"]), str(x["in_flight"]), f"{x['arrival_per_s']:.1f}",
                f"{x['service_per_s']:.1f}", drained, live_workers(x), str(x["wasted"]), escape(gate),
            )  # fmt: skip
        return table

    show(
        found,
        as_json,
        lambda: plain() if found["lines"] else f"nothing waits and nothing runs, as of {found['as_of'] or 'no news yet'}",
    )


def live_workers(line: dict[str, Any]) -> str:
    """How many workers of a line of the backlog are alive; where none is, since when."""
    since = line["no_worker_since"]
    if since is None:
        return str(line["workers"])
    if since == "ever":
        return "no worker ever"
    return f"no worker since {since} ({span(time.time() - datetime.fromisoformat(since).timestamp())})"


def find(
    stage: Annotated[list[str] | None, typer.Option()] = None,
    workflow: Annotated[str | None, typer.Option(help="name@version")] = None,
    tag: Annotated[str | None, typer.Option()] = None,
    file_name: Annotated[str | None, typer.Option()] = None,
    error_code: Annotated[str | None, typer.Option()] = None,
    key: Annotated[str | None, typer.Option(help="The producer's own job key")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="key=value; may repeat")] = None,
    text: Annotated[str | None, typer.Option(help="Words in one of the job's files")] = None,
    in_stage_for_s: Annotated[float | None, typer.Option(help="Seconds in the current stage, at least")] = None,
    query: Annotated[str | None, typer.Option(help="Name of a saved search; excludes the other options")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Find the jobs that match every given option. Exit code 4 when none does."""
    wanted = {
        "stage": stage, "workflow": workflow, "tag": tag, "file_name": file_name, "error_code": error_code, "job_key": key,
        "metadata": metadata, "text": text, "in_stage_for_s": in_stage_for_s,
    }  # fmt: skip
    pairs = [(k, str(x)) for k, v in wanted.items() if v is not None for x in (v if isinstance(v, list) else [v])]
    path = f"/v1/queries/{query}/jobs" if query else "/v1/jobs"
    found = run(data_dir, lambda c: c.call("GET", path, params=[*pairs, ("limit", str(limit))]))["result"]

    def plain() -> Table:
        table = Table("job", "stage", "since", "files", "workflow", "created", "errors", box=None)
        for j in found:
            errors = escape(j["error_messages"][-1][:60]) if j["error_messages"] else ""
            since = span(time.time() - j["stage_since"]) if j.get("stage_since") else ""
            files = f"{j['finished_files']}/{j['file_count']}"
            table.add_row(j["id"], j["stage"], since, files, str(j["workflow"]), j["creation_date"], errors)
        return table

    show(found, as_json, plain)
    if not found:
        raise typer.Exit(4)


def _verb(word: str, help_: str) -> Any:
    def command(job_id: str, reason: Reason = "", as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
        answer = run(data_dir, lambda c: c.call("POST", f"/v1/jobs/{job_id}/{word}", json={"reason": reason}))
        paused = f", paused by {answer['paused']['by']}" if answer["paused"] else ""
        show(answer, as_json, lambda: f"{job_id}: {answer['stage']}{paused}")

    command.__doc__ = help_
    return command


def rerun(
    job_id: str,
    from_step: Annotated[str | None, typer.Option("--from")] = None,
    only: Annotated[str, typer.Option(help="all, failed, or changed")] = "all",
    file: Annotated[list[str] | None, typer.Option(help="Only this file; may repeat")] = None,
    version: Annotated[int | None, typer.Option(help="Another version of the workflow")] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object that replaces the job's metadata")] = None,
    args: Annotated[str | None, typer.Option(help="JSON object: step → settings")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Run an ended job again as a new job. Results of unchanged steps are reused."""
    body: dict[str, Any] = {"only": only, "reason": reason, "file_ids": file or []}
    more = {
        "from_step": from_step,
        "workflow_version": version,
        "metadata": parse_metadata(metadata),
        "args": parse_metadata(args, "--args"),
    }
    body |= {k: v for k, v in more.items() if v is not None}
    answer = run(data_dir, lambda c: c.call("POST", f"/v1/jobs/{job_id}/rerun", json=body))
    show(answer, as_json, lambda: answer["job_id"])


def poke(
    job_id: str,
    step: Annotated[str | None, typer.Option(help="The waiting step; default: all waiting steps")] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Answer KO instead of OK")] = False,
    code: Annotated[str | None, typer.Option()] = None,
    message: Annotated[str | None, typer.Option()] = None,
    data: Annotated[str | None, typer.Option(help="JSON object: the step's result")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Answer a waiting step: an approval, or an event from outside."""
    body = {
        "step": step,
        "outcome": "KO" if refuse else "OK",
        "code": code,
        "message": message,
        "data": parse_metadata(data, "--data") or {},
    }
    answer = run(data_dir, lambda c: c.call("POST", f"/v1/jobs/{job_id}/poke", json=body))
    show(answer, as_json, lambda: f"{job_id}: {answer['stage']}")


def control(
    what: Annotated[str, typer.Argument(help="action:NAME or tenant:ID")],
    pause: Annotated[bool | None, typer.Option("--pause/--resume")] = None,
    limit: Annotated[int | None, typer.Option(help="Tasks that workers may hold at a time; -1: no limit")] = None,
    rate: Annotated[float | None, typer.Option(help="Tasks per second; -1: no limit")] = None,
    weight: Annotated[float | None, typer.Option(help="A tenant's share of the capacity while tasks wait")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Pause, limit or weight an action or a tenant at run time."""
    kind, _, name = what.partition(":")
    if kind not in ("action", "tenant") or not name:
        raise CliError("what: action:NAME or tenant:ID is expected", 2)
    given = {"paused": pause, "limit": limit, "rate_per_s": rate, "weight": weight}
    body: dict[str, Any] = {k: None if v == -1 and v is not True else v for k, v in given.items() if v is not None}
    answer = run(data_dir, lambda c: c.call("PUT", f"/v1/controls/{kind}/{name}", json={**body, "reason": reason}))
    show(answer, as_json, lambda: f"{what}: " + (", ".join(f"{k} {v}" for k, v in body.items()) or "unchanged"))


def audit(
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify the chain of hashes over all lines instead of showing them")
    ] = False,
    head: Annotated[str | None, typer.Option(help="With --verify: the head that an earlier run printed")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the audit log, newest entry first, or verify it. Exit code 1: the chain is broken."""
    if verify or head:
        _verify_audit(head, as_json, data_dir)
        return
    found = run(data_dir, lambda c: c.call("GET", f"/v1/audit?limit={limit}"))["result"]

    def plain() -> Table:
        table = Table("when", "who", "verb", "subject", "done", "reason", box=None)
        for a in found:
            done = "yes" if a["ok"] else f"no: {a['message'] or a['code']}"
            times = f" ({a['count']} times)" if a.get("count") else ""
            table.add_row(
                a["occurred_at"], escape(a["by"]), a["verb"] + times, escape(a["subject"]), escape(done), escape(a["reason"])
            )
        return table

    show(found, as_json, plain)


def _verify_audit(head: str | None, as_json: bool, data_dir: Path) -> None:
    found = run(data_dir, lambda c: c.call("GET", "/v1/audit/verification" + (f"?head={head}" if head else "")))
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
    for command in (why, backlog, find, rerun, poke, control, audit):
        app.command()(command)
    verbs = {
        "pause": "Stop dispatching a job's tasks until it is resumed.", "resume": "Resume a paused job.",
        "terminate": "Fail a job at once, without its rescue steps.", "retry": "Start a job's next attempts now, without their back-off.",
    }  # fmt: skip
    for word, help_ in verbs.items():
        app.command(word)(_verb(word, help_))
