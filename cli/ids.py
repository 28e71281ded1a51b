"""Ids as people type them: whole, by a prefix that only one has, or `@last` for the newest."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.target import CliError, Target, route

JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Its id, the beginning of its id (8 characters or more), or @last: the job last submitted from here"
    ),
]
LAST = "@last"
_BEGINNING = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}", re.IGNORECASE)


async def job_id_of(client: Client, given: str, changes: bool = False) -> str:
    """The id of the job that is meant. `changes` is true for a verb that changes the job.

    `@last` is the job last submitted from here. Where none was, a verb that only reads takes the newest job; one that changes a job
    refuses, because the newest job can be somebody else's. Raises `CliError`: 4 when there is none, 2 when several ids begin so.
    """
    if given == LAST:
        known = _remembered(client.target)
        return known or await _newest(client, changes)
    if not _BEGINNING.fullmatch(given):
        return given
    found = (await client.call("GET", "/v1/jobs", params=[("id", given.lower()), ("limit", "2")]))["result"]
    if len(found) > 1:
        raise CliError(f"several jobs have ids that begin with {given}: add characters", 2)
    if not found:
        raise CliError(f"no job has an id that begins with {given}", 4)
    return str(found[0]["id"])


async def _newest(client: Client, changes: bool) -> str:
    if changes:
        raise CliError("no job was submitted from here yet: name the job by its id", 4)
    newest = (await client.call("GET", "/v1/jobs", params=[("limit", "1")]))["result"]
    if not newest:
        raise CliError("there is no job yet", 4)
    return str(newest[0]["id"])


async def job_route(client: Client, template: str, given: str, changes: bool = False) -> str:
    """`route` with the id of the job that is meant."""
    return route(template, await job_id_of(client, given, changes))


def remember(target: Target, job_id: str) -> None:
    """Keep the job as `@last` of this address. Without a writable folder nothing is kept."""
    with contextlib.suppress(OSError):
        target.memory.parent.mkdir(parents=True, exist_ok=True)
        known = _memory(target)
        # Readable by its owner alone, as all that is kept here.
        part = target.memory.with_suffix(".part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({**known, target.url: job_id}, file)
        part.replace(target.memory)


def _remembered(target: Target) -> str | None:
    found = _memory(target).get(target.url)
    return found if isinstance(found, str) else None


def _memory(target: Target) -> dict[str, Any]:
    try:
        found = json.loads(target.memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
