"""Writes jobs with their files as JSON lines, and shows how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.filters import Fields
from cli.job_history import history_of
from cli.output import write
from cli.progress import progress
from cli.target import CliError, route


async def lines_of(client: Client, wanted: Fields, limit: int, history: bool, to: Path | None) -> int:
    """Write each job that matches as one line to `to`, or to standard output; returns how many. Raises `CliError`.

    The file appears when it is whole.
    """
    part = to.with_name(f".{to.name}.part") if to is not None else None
    count, cursor = 0, None
    try:
        stream = part.open("w", encoding="utf-8") if part is not None else None
        with progress("exported", "jobs") as bar:
            while count < limit:
                page = [("limit", str(min(100, limit - count))), *([("cursor", cursor)] if cursor else [])]
                answer = await client.call("GET", "/v1/jobs", params=[*wanted, *page])
                for job in answer["result"]:
                    line = json.dumps(await _whole(client, job["id"], history), ensure_ascii=False) + "\n"
                    stream.write(line) if stream is not None else write(line)
                    count += 1
                    bar(count, None)
                cursor = answer["next"]
                if cursor is None:
                    break
        if stream is not None and part is not None and to is not None:
            stream.close()
            part.replace(to)
    except OSError as error:
        if to is None:
            raise
        raise CliError(f"{to}: {error.strerror or error}", 1) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return count


async def _whole(client: Client, job_id: str, history: bool) -> dict[str, Any]:
    job: dict[str, Any] = await client.call("GET", route("/v1/jobs/{}", job_id))
    if history:
        job["history"] = await history_of(client, job_id)
    return job
