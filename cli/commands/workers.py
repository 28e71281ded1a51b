"""`stageline workers`: which workers live, and what each has now."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run, show
from cli.groups import Listing, noun
from cli.waiting import span

app = noun("Workers: who lives, and what each has now.", Listing)


@app.command("list")
def list_workers(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the workers of the last day: actions, version, last sign of life, and the tasks that each runs.

    Example: stageline workers list
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/workers"))["result"]
    show(found, as_json, lambda: table_of(found) if found else "no worker gave a sign of life in the last day")


def table_of(found: list[dict[str, Any]]) -> Table:
    """A row per worker, live ones first, and a row per task that it runs."""
    table = Table("worker", "state", "last sign", "version", "actions", "has now", box=None)
    order = {"live": 0, "silent": 1, "left": 2}
    for x in sorted(found, key=lambda w: (order.get(w["state"], 3), w["worker"])):
        held = None if x["holds"] is None else len(x["holds"])
        has = (
            "it does not say"
            if held is None
            else f"{held} of {x['slots']} tasks"
            if x["state"] == "live"
            else f"had {held} tasks"
        )
        cells = (x["worker"], x["state"], f"{span(x['age_s'])} ago", x["client"] or "", ", ".join(x["actions"]), has)
        table.add_row(*map(escape, cells))
        for task in x["holds"] or ():
            since = time.time() - datetime.fromisoformat(task["since"]).timestamp()
            what = f"job {task['job_id']} step {task['step']}, attempt {task['attempt']}, for {span(since)}"
            table.add_row("", "", "", "", escape(task["action"]), escape(what))
    return table
