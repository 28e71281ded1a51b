"""Shared by all commands: common options, and a client of the pipeline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli.client import Client, find_target
from cli.output import out, show, write

T = TypeVar("T")
DEFAULT_DATA_DIR = Path(os.environ.get("STAGELINE_DATA_DIR", ".stageline"))
DataDir = Annotated[Path, typer.Option("--data-dir", help="Data directory of the local pipeline")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: the same as --output json")]
Reason = Annotated[str, typer.Option(help="Recorded in the job's history and in the audit log")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]


def print_line(line: str) -> None:
    """Print one line at once, even into a pipe."""
    write(line + "\n")


def run(data_dir: Path, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with a client of the pipeline in `data_dir`; returns its result. Raises `CliError`."""

    async def body() -> T:
        async with Client(find_target(data_dir)) as client:
            return await work(client)

    return asyncio.run(body())


__all__ = ["DEFAULT_DATA_DIR", "AsJson", "DataDir", "Reason", "Yes", "out", "print_line", "run", "show"]
