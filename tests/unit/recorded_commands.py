"""Recorded output of the command line: the help of every command, and each form of the output of those that only read.

`python -m tests.unit.recorded_commands` records it again. A changed line is a change that users see, which the review sees too.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main
import typer.rich_utils

import cli.main
from cli.output import out
from scripts.docs.commands import known_commands
from tests.unit.canned_gateway import BULK, FILE, JOB, NOW, Gateway, serving

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "commands"
COMMAND: Any = typer.main.get_command(cli.main.app)
GROUPS = ["", *sorted(name for name, child in COMMAND.commands.items() if hasattr(child, "commands") and not child.hidden)]
FORMS = ("table", "json", "yaml", "csv", "name")
READS: dict[str, list[str]] = {
    "applications list": [], "audit": [], "backlog": [], "bulk list": [], "bulk show": [BULK], "files list": [], "files show": [FILE],
    "files search": ["pump"], "find": ["--stage", "failed"], "jobs list": [], "jobs show": [JOB], "jobs why": [JOB], "keys list": [],
    "results show": [JOB], "schedules list": [], "schedules show": ["nightly #1"], "search": ["pump"], "secrets list": [],
    "tenants list": [], "users list": [], "why": [JOB], "workflows list": [],
}  # fmt: skip
"""Commands that read, with the arguments of their recording."""


def invoke(
    arguments: list[str], url: str | None, width: int = 10_000, terminal: bool = False, folder: str = ""
) -> tuple[int, str, str]:
    """(exit code, output, errors) of `stageline` with these arguments, run in this process at the time `NOW`, in `folder` or an empty one."""
    environment = {"NO_COLOR": "1", "COLUMNS": "100", "XDG_STATE_HOME": "state"}
    environment |= {"STAGELINE_URL": url, "STAGELINE_NOTIFIER_URL": url, "STAGELINE_KEY": "sk"} if url is not None else {}
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with (
        tempfile.TemporaryDirectory() as empty,
        contextlib.chdir(folder or empty),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["stageline", *arguments]),
        mock.patch.object(out, "_width", width),
        mock.patch("cli.output.is_terminal", lambda: terminal),
        mock.patch("time.time", lambda: NOW),
        mock.patch("typer.main.get_command", lambda _: COMMAND),  # made once: it takes longer than all else
        mock.patch("typer._click.utils._detect_program_name", lambda: "stageline"),
        mock.patch.object(typer.rich_utils, "FORCE_TERMINAL", None),
        mock.patch.object(typer.rich_utils, "MAX_WIDTH", 100),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        try:
            cli.main.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    said, wrong = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return code, said, wrong


def names() -> list[str]:
    """Every command and group that has a help, without `stageline`."""
    return [*GROUPS, *(name.partition(" ")[2] for name, _ in known_commands())]


def path_of(name: str) -> Path:
    """The file of a command's recording."""
    return FOLDER / f"{name.replace(' ', '-') or 'stageline'}.txt"


def recording(name: str, gateway: Gateway) -> str:
    """What a command prints: its help, then each form of its output, with no records at the end."""
    return "\n".join(_parts(name, gateway))


def _parts(name: str, gateway: Gateway) -> Iterator[str]:
    yield _one([*name.split(), "--help"], gateway)
    if name not in READS:
        return
    for form in FORMS:
        yield _one([*name.split(), *READS[name], "--output", form], gateway)
    yield "# in a terminal of 50 columns\n" + _one([*name.split(), *READS[name]], gateway, 50)
    gateway.empty = True
    try:
        for form in ("table", "json"):
            yield "# without records\n" + _one([*name.split(), *READS[name], "--output", form], gateway)
    finally:
        gateway.empty = False


def _one(arguments: list[str], gateway: Gateway, width: int = 10_000) -> str:
    code, said, wrong = invoke(arguments, gateway.url, width, terminal=width < 10_000)
    text = f"$ stageline {shlex.join(arguments)}\n{said}{wrong}exit code {code}\n".replace("\r\n", "\n").replace(
        gateway.url, "http://gateway"
    )
    return re.sub(r"[ \t]+$", "", text, flags=re.M)


def record() -> None:
    """Write all recordings, and delete those of commands that are gone."""
    FOLDER.mkdir(exist_ok=True)
    with serving() as gateway:
        texts = {path_of(name): recording(name, gateway) for name in names()}
    for path in FOLDER.glob("*.txt"):
        if path not in texts:
            path.unlink()
    for path, text in texts.items():
        path.write_text(text)


if __name__ == "__main__":
    record()
