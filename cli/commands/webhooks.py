"""Webhook endpoints: add, change and test them, rotate their secret, read their log, send deliveries again."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.filters import moment_of
from cli.groups import Listing, noun
from cli.output import Columns, moment, show, show_rows
from cli.target import CliError, route

app = noun("Webhook endpoints: where events are sent, and what came of it.", Listing)
Id = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Id of an endpoint, or its first characters")]
Event = Annotated[list[str] | None, typer.Option(help="Event name or pattern, such as job.*; may repeat")]
Description = Annotated[str | None, typer.Option(help="What the endpoint is for")]
Since = Annotated[str | None, typer.Option(help="A time, or how long ago: 2026-12-01T08:00:00Z, 30m, 2h, 2d")]
Why = Annotated[str, typer.Option("--reason", help="Recorded in the audit log")]
HERE = DEFAULT_DATA_DIR


async def call(client: Client, method: str, endpoint: str = "", act: str = "", **more: Any) -> Any:
    """A request to the notifier about an endpoint, which a unique beginning of its id names."""
    whole = await _whole(client, endpoint) if endpoint else ""
    segments = [part for part in (whole, act) if part]
    path = route("/v1/webhooks" + "/{}" * len(segments), *segments)
    # The client repeats a request that was not answered; under its key it takes place once.
    once = {"idempotency-key": str(uuid.uuid4())} if method != "GET" else {}
    return await client.call(method, path, notifier=True, headers=once, **more)


async def _whole(client: Client, beginning: str) -> str:
    found = (await client.call("GET", "/v1/webhooks", notifier=True))["result"]
    fitting = [e["id"] for e in found if e["id"].startswith(beginning)]
    if beginning in fitting or len(fitting) == 1:
        return beginning if beginning in fitting else str(fitting[0])
    raise CliError(
        f"{beginning}: {'several endpoints begin so' if fitting else 'there is no such endpoint'}", 2 if fitting else 4
    )


@app.command("add")
def add(url: str, event: Event = None, description: str = "", as_json: AsJson = False, data_dir: DataDir = HERE) -> None:
    """Register an endpoint. The signing secret is printed once.

    Example: stageline webhooks add https://example.com/hook --event 'job.*'
    """
    body = {"url": url, "events": event or [], "description": description}
    made = run(data_dir, lambda c: call(c, "POST", json=body))
    show(made, as_json, lambda: f"{made['id']}\nsecret: {made['secret']}")


@app.command("list")
def list_(as_json: AsJson = False, data_dir: DataDir = HERE) -> None:
    """List endpoints.

    Example: stageline webhooks list --output csv
    """
    found = run(data_dir, lambda c: call(c, "GET"))["result"]
    columns: Columns = {"endpoint": "id", "url": "url", "events": _events, "state": "state", "reason": "disabled_reason"}
    show_rows(found, columns, as_json, empty="there is no endpoint")


def _events(endpoint: Any) -> str:
    return ", ".join(endpoint["events"]) or "all"


@app.command("show")
def show_(endpoint: Id, as_json: AsJson = False, data_dir: DataDir = HERE) -> None:
    """Show an endpoint, its deliveries by state, and when the next one is tried.

    Example: stageline webhooks show 0198c3f2
    """
    _print(run(data_dir, lambda c: call(c, "GET", endpoint)), as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    def people() -> str:
        lines = {
            "endpoint": found["id"], "url": found["url"], "events": _events(found), "description": found["description"],
            "state": found["state"], "reason": found["disabled_reason"], "failing since": moment(found["failing_since"]),
            "signs with the former secret until": moment(found["former_secret_until"]),
            "deliveries": ", ".join(f"{n} {state}" for state, n in sorted(found.get("deliveries", {}).items())),
            "next attempt": moment(found.get("next_attempt_at")), "last delivered": moment(found.get("last_delivered_at")),
            "last failed": moment(found.get("last_failed_at")),
        }  # fmt: skip
        return "\n".join(f"{name:<14} {value}" for name, value in lines.items() if value)

    show(found, as_json, people)


@app.command("edit")
def edit(
    endpoint: Id,
    url: Annotated[str | None, typer.Option(help="The new address")] = None,
    event: Event = None,
    all_events: Annotated[bool, typer.Option("--all-events", help="Send every event")] = False,
    description: Description = None,
    as_json: AsJson = False,
    data_dir: DataDir = HERE,
) -> None:
    """Change an endpoint. Its id, secret and log stay.

    Example: stageline webhooks edit 0198c3f2 --event job.finished --event job.failed
    """
    events = [] if all_events else event
    body = {name: value for name, value in (("url", url), ("events", events), ("description", description)) if value is not None}
    if not body:
        raise CliError("nothing to change: give --url, --event, --all-events or --description", 2)
    _print(run(data_dir, lambda c: call(c, "PATCH", endpoint, json=body)), as_json)


@app.command("test")
def test(endpoint: Id, as_json: AsJson = False, data_dir: DataDir = HERE) -> None:
    """Send a test event now and show the answer. The exit code is 1 unless it is 2xx.

    Example: stageline webhooks test 0198c3f2
    """
    made = run(data_dir, lambda c: call(c, "POST", endpoint, "test"))
    said = f"status {made['status_code']}" if made["status_code"] else f"{made['error']}: {made['detail']}"
    show(made, as_json, lambda: f"{made['outcome']}: {said} after {made['duration_ms']:.0f} ms")
    if made["outcome"] != "delivered":
        raise typer.Exit(1)


@app.command("rotate")
def rotate(
    endpoint: Id,
    overlap: Annotated[float, typer.Option(help="Hours for which the former secret signs beside the new one")] = 24.0,
    as_json: AsJson = False,
    data_dir: DataDir = HERE,
) -> None:
    """Give an endpoint a new secret. It is printed once.

    Example: stageline webhooks rotate 0198c3f2 --overlap 48
    """
    made = run(data_dir, lambda c: call(c, "POST", endpoint, "rotate", json={"overlap_s": overlap * 3600}))
    until = moment(made["former_secret_until"])
    show(made, as_json, lambda: f"secret: {made['secret']}\nthe former secret signs too until {until}")


@app.command("disable")
def disable(endpoint: Id, reason: Why = "", as_json: AsJson = False, data_dir: DataDir = HERE) -> None:
    """Hold an endpoint's deliveries until it is enabled.

    Example: stageline webhooks disable 0198c3f2 --reason "receiver moves"
    """
    _print(run(data_dir, lambda c: call(c, "POST", endpoint, "disable", json={"reason": reason})), as_json)


@app.command("enable")
def enable(endpoint: Id, reason: Why = "", as_json: AsJson = False, data_dir: DataDir = HERE) -> None:
    """Enable an endpoint and send what was held.

    Example: stageline webhooks enable 0198c3f2
    """
    made = run(data_dir, lambda c: call(c, "POST", endpoint, "enable", json={"reason": reason}))
    show(made, as_json, lambda: f"enabled; {made['due']} held deliveries are sent now")


@app.command("delete")
def delete(endpoint: Id, data_dir: DataDir = HERE) -> None:
    """Delete an endpoint, its waiting deliveries and its log.

    Example: stageline webhooks delete 0198c3f2
    """
    run(data_dir, lambda c: call(c, "DELETE", endpoint))


@app.command("replay")
def replay(
    endpoint: Id,
    event_id: Annotated[str | None, typer.Option("--event-id", help="This event alone")] = None,
    job: Annotated[str | None, typer.Option(help="The events of this job")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="What was given up")] = False,
    since: Since = None,
    until: Since = None,
    reason: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = HERE,
) -> None:
    """Send deliveries again, under their webhook-id of before.

    Example: stageline webhooks replay 0198c3f2 --failed --since 2d
    """
    given = {
        "event_id": event_id,
        "job_id": job,
        "since": since and moment_of(since, "--since"),
        "until": until and moment_of(until, "--until"),
    }
    body = {name: value for name, value in given.items() if value is not None} | ({"failed": True} if failed else {})
    if not body:
        raise CliError("say which deliveries: --event-id, --job, --failed, --since or --until", 2)
    body |= {"reason": reason} if reason else {}
    made = run(data_dir, lambda c: call(c, "POST", endpoint, "replay", json=body))
    show(made, as_json, lambda: f"{made['due']} deliveries are sent again")


@app.command("log")
def log(
    endpoint: Id,
    outcome: Annotated[str | None, typer.Option(help="delivered, retrying, exhausted, refused, disabled or failed")] = None,
    event: Annotated[str | None, typer.Option(help="Type of event, such as job.finished")] = None,
    job: Annotated[str | None, typer.Option(help="Id of a job")] = None,
    since: Since = None,
    until: Since = None,
    limit: Annotated[int, typer.Option(help="Most attempts", min=1, max=1000)] = 100,
    as_json: AsJson = False,
    data_dir: DataDir = HERE,
) -> None:
    """Show delivery attempts, newest first. Times are UTC.

    Example: stageline webhooks log 0198c3f2 --outcome retrying --since 2h
    """
    given = {
        "outcome": outcome, "event_type": event, "job_id": job, "since": since and moment_of(since, "--since"), "until": until and moment_of(until, "--until"), "limit": str(limit),
    }  # fmt: skip
    query = {name: value for name, value in given.items() if value is not None}
    found = run(data_dir, lambda c: call(c, "GET", endpoint, "log", params=query))
    columns: Columns = {
        "time": lambda a: moment(a["attempted_at"]), "event": "event_type", "job": "job_id", "try": "attempt", "outcome": "outcome",
        "status": "status_code", "error": "error", "ms": lambda a: f"{a['duration_ms']:.1f}",
        "next try": lambda a: moment(a["next_attempt_at"]), "event id": "event_id",
    }  # fmt: skip
    if as_json:
        show(found, as_json, str)
    else:
        show_rows(found["result"], columns, empty="no attempt fits")
