"""Ids as people type them: whole, by a prefix that only one has, or `@last` for the newest."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cli.client import Client
from cli.target import CliError, route

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its id, the beginning of its id (8 characters or more), or @last")]
LAST = "@last"
_BEGINNING = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}", re.IGNORECASE)


async def job_id_of(client: Client, given: str) -> str:
    """The id of the job that is meant. Raises `CliError`: 4 when there is none, 2 when several ids begin so."""
    if given == LAST:
        newest = (await client.call("GET", "/v1/jobs", params=[("limit", "1")]))["result"]
        if not newest:
            raise CliError("there is no job yet", 4)
        return str(newest[0]["id"])
    if not _BEGINNING.fullmatch(given):
        return given
    found = (await client.call("GET", "/v1/jobs", params=[("id", given.lower()), ("limit", "2")]))["result"]
    if len(found) > 1:
        raise CliError(f"several jobs have ids that begin with {given}: add characters", 2)
    if not found:
        raise CliError(f"no job has an id that begins with {given}", 4)
    return str(found[0]["id"])


async def job_route(client: Client, template: str, given: str) -> str:
    """`route` with the id of the job that is meant."""
    return route(template, await job_id_of(client, given))
