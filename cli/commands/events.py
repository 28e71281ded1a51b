"""`stageline events`: the retained events, and new ones as they come."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import yaml

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, print_line, run
from cli.commands.job_page import event_line, utc
from cli.ids import job_id_of
from cli.output import Output, chosen, moment, plain


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new events")] = False,
    job_id: Annotated[str | None, typer.Option("--job", help="Only events of this job: id, beginning of an id, or @last")] = None,
    types: Annotated[str, typer.Option(help="Names or patterns, e.g. job.*,file.done")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print all retained events. With --follow, continue with new ones. Exit code 3 when the notifier does not answer.

    Example: stageline events --types 'job.*' --follow
    """
    form = chosen(as_json)

    async def work(client: Client) -> None:
        wanted = await job_id_of(client, job_id) if job_id else None
        if form is Output.CSV:
            print_line("time,type,subject")
        async for event in client.events("beginning", types, wanted, follow):
            data = event["data"]
            inner = data.get("event", data)
            subject = inner.get("job_id") or inner.get("session_id") or inner.get("file_id") or ""
            if form is Output.JSON:
                print_line(json.dumps(event, ensure_ascii=False))
            elif form is Output.YAML:
                print_line("---\n" + yaml.safe_dump(event, sort_keys=False, allow_unicode=True).rstrip())
            elif form is Output.NAME:
                print_line(plain(data.get("event_id") or subject))
            elif form is Output.CSV:
                when = moment(data["event_time"]) if "event_time" in data else utc(str(data.get("occurred_at", "")))
                print_line(f"{when},{event['type']},{subject}")
            else:
                print_line(event_line(event))

    run(data_dir, work)
