"""What the command line says when something goes wrong: one line on standard error and an exit code by meaning, never a traceback."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from typing import Any

import typer
from typer.exceptions import TyperException

from cli.groups import suggestion
from cli.target import CliError

WRONG_USE = 2
CLOSED = 141
"""Exit code when the reader of the output has gone, as of a program that SIGPIPE ends."""
_UNKNOWN = re.compile(r"No such (command|option:?) '?([^'.]+)'?")


def guarded(app: typer.Typer) -> None:
    """Run the command line and exit with its code. What the encoding of the output does not have is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(app)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = _without_output(CLOSED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            code = _without_output(CLOSED)
        else:
            about = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
            code = _say(
                "the output cannot be written: " if error.errno == errno.ENOSPC and not about else about,
                error.strerror or str(error),
                1,
            )
            _without_output(code)
    sys.exit(code)


def _run(app: typer.Typer) -> int:
    if sys.stdout is None:
        return _say("", "standard output is closed", 1)
    try:
        result = app(standalone_mode=False)
    except CliError as error:
        return _say("", str(error), error.code)
    except typer.Abort:
        return _say("", "nothing is changed", 1)
    except KeyboardInterrupt:
        return 130
    except TyperException as error:
        return _wrong_use(error)
    return result if isinstance(result, int) else 0


def _wrong_use(error: Any) -> int:
    """One line with what is wrong, the nearest harmless word, and where the help is."""
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(error.format_message() + "\n")
        return WRONG_USE
    hint = ""
    if context is not None:
        typed = _UNKNOWN.search(message)
        commands = getattr(context.command, "commands", None)
        if typed and typed[1] == "command" and commands:
            near = suggestion([name for name, command in commands.items() if not command.hidden], typed[2])
            hint = f" Did you mean {near}?" if near else ""
        hint += f" See `{context.command_path} -h`"
    return _say("", f"{message.rstrip('.')}.{hint}", WRONG_USE)


def _say(before: str, message: str, code: int) -> int:
    if sys.stderr is not None:
        encoding = sys.stderr.encoding or "utf-8"
        line = f"stageline: {before}{message}\n"
        try:
            sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding))
        except OSError:
            pass  # nobody can read it
    return code


def _without_output(code: int) -> int:
    """Send what is still buffered nowhere, so that the interpreter's exit does not fail on it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    return code
