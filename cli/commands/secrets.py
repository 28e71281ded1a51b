"""`stageline secrets`: set, list and delete secrets that steps of workflows name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, run
from cli.groups import Listing, noun
from cli.output import show, show_rows
from cli.target import CliError, route

app = noun("Set, list and delete secrets that steps of workflows name. No command shows a value.", Listing)


def read_value(path: Path | None, what: str = "Value") -> str:
    """The value from a file, else from a hidden prompt or from standard input, without the newline at its end."""
    if path is not None:
        try:
            return path.read_text().rstrip("\r\n")
        except OSError as error:
            raise CliError(f"{path}: {error.strerror}", 2) from error
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True))
    return sys.stdin.read().rstrip("\r\n")


@app.command("set")
def set_secret(
    name: str,
    origin: Annotated[
        list[str] | None, typer.Option(help="Address that it may be sent to, e.g. https://crm.example.com; may repeat")
    ] = None,
    from_file: Annotated[Path | None, typer.Option(help="File with the value; default: a prompt, or standard input")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Set a secret. A step names it as `secret:NAME`. The value is never an argument, because other users could see it.

    Example: stageline secrets set crm-token --origin https://crm.example.com --from-file token.txt
    """
    body = {"value": read_value(from_file), "origins": origin or []}
    run(data_dir, lambda c: c.call("PUT", route("/v1/secrets/{}", name), json=body))
    show({"name": name, "set": True}, False, lambda: f"{name} is set")


@app.command("list")
def listed(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List names of secrets.

    Example: stageline secrets list
    """
    found = run(data_dir, lambda c: c.call("GET", "/v1/secrets"))["result"]
    columns: dict[str, Any] = {
        "secret": "name", "may be sent to": lambda s: s["origins"] or "the step's address", "set by": "changed_by",
    }  # fmt: skip
    show_rows(found, columns, as_json, empty="there is no secret yet; `stageline secrets set` makes one")


@app.command()
def delete(name: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a secret. Steps that name it fail from now on.

    Example: stageline secrets delete crm-token
    """
    run(data_dir, lambda c: c.call("DELETE", route("/v1/secrets/{}", name)))
    show({"name": name, "deleted": True}, False, lambda: f"{name} is deleted")
