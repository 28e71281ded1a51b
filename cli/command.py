"""Shared by all commands: common options, a client of the pipeline, and output for people or scripts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from cli.client import Client, find_target

# Other programs read piped output, so it is never wrapped to a terminal's width.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
T = TypeVar("T")
DEFAULT_DATA_DIR = Path(os.environ.get("STAGELINE_DATA_DIR", ".stageline"))
DataDir = Annotated[Path, typer.Option("--data-dir", help="Data directory of the local pipeline")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Reason = Annotated[str, typer.Option(help="Recorded in the job's history and in the audit log")]


def print_line(line: str) -> None:
    """Print one line at once, even into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(data_dir: Path, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with a client of the pipeline in `data_dir`; returns its result. Raises `CliError`."""

    async def body() -> T:
        async with Client(find_target(data_dir)) as client:
            return await work(client)

    return asyncio.run(body())


def show(value: Any, as_json: bool, plain: Callable[[], Any]) -> None:
    """Print `value` as JSON, or the output of `plain` for people."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    else:
        out.print(plain())
