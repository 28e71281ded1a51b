"""`stageline webhooks`: endpoints that get events."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.groups import Listing, noun
from cli.output import Output, chosen, show, show_rows
from cli.target import route

app = noun("Webhook endpoints.", Listing)


@app.command("add")
def webhooks_add(
    url: str,
    event: Annotated[list[str] | None, typer.Option(help="Event name or pattern; may repeat; default: all")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Register an endpoint. The signing secret is printed once.

    Example: stageline webhooks add https://crm.example.com/hook --event 'job.*'
    """
    body = {"url": url, "events": event or []}
    made = run(data_dir, lambda c: c.call("POST", "/v1/webhooks", notifier=True, json=body))
    show(made, as_json, lambda: f"{made['id']}\nsecret: {made['secret']}")


@app.command("list")
def webhooks_list(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List endpoints.

    Example: stageline webhooks list
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/webhooks", notifier=True))["result"]
    columns: dict[str, Any] = {
        "endpoint": "id", "url": "url", "events": lambda e: e["events"] or "all", "state": "state", "reason": "disabled_reason",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="there is no endpoint yet; `stageline webhooks add` makes one")


@app.command("log")
def webhooks_log(endpoint_id: str, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show the delivery attempts of an endpoint, newest first.

    Example: stageline webhooks log 3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f
    """
    path = route("/v1/webhooks/{}/log", endpoint_id)
    found = run(data_dir, lambda c: c.call("GET", path, notifier=True, params={"limit": "1000"}))
    if chosen(as_json) in (Output.JSON, Output.YAML):
        show(found, as_json, str)
        return
    columns: dict[str, Any] = {
        "event": "event_id", "type": "event_type", "try": "attempt", "outcome": "outcome", "status": "status_code", "error": "error",
        "ms": lambda a: f"{a['duration_ms']:.1f}",
    }  # fmt: skip
    show_rows(found["result"], columns, empty="no delivery was tried yet")
