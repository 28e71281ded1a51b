"""`stageline secrets`: set, list and delete secrets that steps of workflows name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.client import CliError
from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, print_line, run, show

app = typer.Typer(
    help="Set, list and delete secrets that steps of workflows name. No command shows a value.", no_args_is_help=True
)


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
    """Set a secret. A step names it as `secret:NAME`. The value is never an argument, because other users could see it."""
    body = {"value": read_value(from_file), "origins": origin or []}
    run(data_dir, lambda c: c.call("PUT", f"/v1/secrets/{name}", json=body))
    print_line(f"{name} is set")


@app.command("list")
def listed(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List names of secrets."""
    found = run(data_dir, lambda c: c.call("GET", "/v1/secrets"))["result"]

    def plain() -> Table:
        table = Table("secret", "may be sent to", "set by", box=None)
        for secret in found:
            table.add_row(secret["name"], ", ".join(secret["origins"]) or "the step's address", secret["changed_by"])
        return table

    show(found, as_json, plain)


@app.command()
def delete(name: str, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Delete a secret. Steps that name it fail from now on."""
    run(data_dir, lambda c: c.call("DELETE", f"/v1/secrets/{name}"))
    print_line(f"{name} is deleted")
