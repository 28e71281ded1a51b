"""`stageline`: run the pipeline on this machine, submit documents, follow what happens.

Exit codes: 0 done · 1 a job ended failed, invalid or cancelled, or something failed · 2 wrong use · 3 unreachable ·
4 not found · 5 refused · 130 ended by Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from cli.commands import (
    accounts,
    api,
    approvals,
    bulk,
    environment,
    events,
    files,
    jobs,
    kafka,
    letters,
    logs,
    new,
    operate,
    pipeline,
    results,
    schedules,
    secrets,
    status,
    submit_command,
    verify,
    webhooks,
    workers,
    workflows,
)
from cli.faults import guarded
from cli.groups import HELP, Panel, Root
from cli.output import write
from shared.version import VERSION

app = typer.Typer(
    help="Stageline: a Kafka-native document-job pipeline.", cls=Root, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": list(HELP)},
)  # fmt: skip
app.command(rich_help_panel=Panel.DAILY)(submit_command.submit)
app.command(rich_help_panel=Panel.DAILY)(operate.why)
app.command(rich_help_panel=Panel.DAILY)(events.events)
for name, group in {
    "jobs": jobs.app, "files": files.app, "results": results.app, "workflows": workflows.app, "schedules": schedules.app,
    "bulk": bulk.app, "webhooks": webhooks.app, "secrets": secrets.app, "keys": accounts.keys, "users": accounts.users,
    "tenants": accounts.tenants, "applications": accounts.applications, "topics": kafka.topics, "grants": kafka.grants,
    "workers": workers.app, "letters": letters.app, "approvals": approvals.app,
}.items():  # fmt: skip
    app.add_typer(group, name=name, rich_help_panel=Panel.NOUNS)
jobs.app.command("why")(operate.why)
for command in (operate.backlog, operate.control, operate.audit, logs.logs, logs.trace, api.api, verify.verify, environment.env):
    app.command(rich_help_panel=Panel.OPERATE)(command)
HERE: tuple[Callable[..., None], ...] = (pipeline.up, pipeline.down, status.status, pipeline.doctor, pipeline.reset)
for local in HERE:
    app.command(rich_help_panel=Panel.HERE)(local)
app.add_typer(new.app, name="new", rich_help_panel=Panel.NOUNS)
app.command("job", rich_help_panel=Panel.SHORT)(jobs.show_job)
app.command(rich_help_panel=Panel.SHORT)(jobs.find)
app.command(rich_help_panel=Panel.SHORT)(jobs.rerun)
app.command(rich_help_panel=Panel.SHORT)(operate.poke)
for word, verb in jobs.VERBS.items():
    app.command(word, rich_help_panel=Panel.SHORT)(verb)
app.command(rich_help_panel=Panel.SHORT)(files.text)
app.command(rich_help_panel=Panel.SHORT)(files.search)
app.add_typer(kafka.app, name="kafka", rich_help_panel=Panel.SHORT)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"stageline {VERSION}\n")
        raise typer.Exit


@app.callback()
def stageline(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")] = False,
) -> None:
    """Stageline: a Kafka-native document-job pipeline. `stageline NOUN -h` lists the verbs of a noun."""


def main() -> None:
    """Entry point of the `stageline` command."""
    guarded(app)
