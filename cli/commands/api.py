"""`stageline api`: any call of the HTTP API, with the address and the key of the other commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.output import show, write
from cli.target import CliError

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
AT_NOTIFIER = ("/v1/webhooks", "/events/")


def api(
    method: Annotated[str, typer.Argument(help="GET, HEAD, POST, PUT, PATCH or DELETE")],
    path: Annotated[str, typer.Argument(help="Path and query, such as '/v1/jobs?limit=5'")],
    data: Annotated[str | None, typer.Option("--data", "-d", help="Body as JSON; @FILE reads a file, @- standard input")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--param", help="name=value of the query; may repeat")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="'Name: value'; may repeat")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Call the HTTP API and print the answer as JSON. The notifier's paths go to the notifier.

    Example: stageline api GET /v1/jobs --param limit=5
    """
    if method.upper() not in METHODS:
        raise CliError(f"{method!r} is none of {', '.join(METHODS)}", 2)
    if not path.startswith("/"):
        raise CliError(f"{path!r} is not a path: it begins with /", 2)
    more: dict[str, Any] = {"params": _pairs(parameter or [], "=", "--param")}
    headers = _pairs(header or [], ":", "--header")
    if headers:
        more["headers"] = dict(headers)
    if data is not None:
        more["json"] = _body(data)

    async def work(client: Client) -> Any:
        return await client.call(method.upper(), path, notifier=path.startswith(AT_NOTIFIER), **more)

    answer = run(data_dir, work)
    if isinstance(answer, str):
        write(answer if answer.endswith("\n") else answer + "\n")
    elif answer is not None:
        show(answer, as_json, lambda: json.dumps(answer, indent=1, ensure_ascii=False))


def _pairs(given: list[str], sign: str, option: str) -> list[tuple[str, str]]:
    found = []
    for pair in given:
        name, between, value = pair.partition(sign)
        if not between or not name.strip():
            raise CliError(f"{option}: name{sign}value is expected, not {pair!r}", 2)
        found.append((name.strip(), value.strip() if sign == ":" else value))
    return found


def _body(data: str) -> Any:
    try:
        if data == "@-":
            data = sys.stdin.read()
        elif data.startswith("@"):
            data = Path(data[1:]).read_text()
        return json.loads(data)
    except OSError as error:
        raise CliError(f"{data[1:]}: {error.strerror}", 2) from None
    except ValueError as error:
        raise CliError(f"--data: not valid JSON: {error}", 2) from None
