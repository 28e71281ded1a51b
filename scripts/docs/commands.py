"""Reference of the `stageline` command, from the command line's own parser."""

from __future__ import annotations

from collections.abc import Iterator
from enum import EnumType
from pathlib import Path
from typing import Any, get_args

import typer

from cli.main import app
from scripts.docs.markdown import first_sentence, table

HEAD = """\
# Command line

Generated from the parser by `make docs`. Do not edit. `stageline COMMAND --help` prints the same.

Without options a command talks to the pipeline of the data directory (`--data-dir`, `STAGELINE_DATA_DIR`, by default `.stageline`).
`STAGELINE_URL`, `STAGELINE_NOTIFIER_URL` and `STAGELINE_KEY` name another one.

`--output` (`-o`) prints a table, JSON, YAML, CSV or names alone; `--json` is `--output json`. JSON and YAML hold whole records. Names are the first
column, one on each line, for other commands. Notes and progress go to standard error. `NO_COLOR=1` turns colours off.

A job is named by its id, by the beginning of its id (8 characters or more, if one job alone has it), or by `@last`, the newest one. Times are
UTC and end with `Z`. `--since` and `--until` take a span (`90s`, `5min`, `2h`, `2d`, `1w`), a date or a time.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a job ended failed, invalid or cancelled; or something failed |
| 2 | wrong use: an unknown command, a missing or wrong value, here or by the judgement of the service |
| 3 | not reachable |
| 4 | not found, or nothing matches |
| 5 | refused: no right, or the job's state forbids it |
| 130 | ended by Ctrl-C; the job goes on |
"""
WORDS = {str: "text", int: "number", float: "number", Path: "path", bool: "yes or no"}


def page() -> str:
    """The whole page: a table of all commands, then each with its arguments and options."""
    known = known_commands()
    rows = [[f"[`{name}`](#{name.replace(' ', '-')})", first_sentence(command.help)] for name, command in known]
    parts = [HEAD, table(["command", "does"], rows), ""]
    for name, command in known:
        parts += [f"## {name}\n", _command(name, command), ""]
    return "\n".join(parts)


def known_commands() -> list[tuple[str, Any]]:
    """(full name, command) of every command that is not a group, in order of name."""
    return list(_commands(typer.main.get_command(app), "stageline"))


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command, or all commands below a group. The type is `Any` because Typer bundles its own copy of click."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child in sorted(children):
        if not children[child].hidden:
            yield from _commands(children[child], f"{name} {child}")


def _command(name: str, command: Any) -> str:
    shown = [p for p in command.params if not p.hidden]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_place, arguments)])
    help_ = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    rows = [_parameter(p) for p in (*arguments, *options)]
    listed = table(["", "value", "default", "meaning"], rows) if rows else ""
    example = (command.epilog or "").removeprefix("Example: ")
    shown_example = f"```sh\n{example}\n```\n\n" if example else ""
    return f"{help_}\n\n```text\n{usage}\n```\n\n{shown_example}{listed}".rstrip()


def _place(argument: Any) -> str:
    """An argument in the usage line: `[NAME]` if it is optional, with dots if it may repeat."""
    name = argument.metavar or argument.name.upper()
    return (name if argument.required else f"[{name}]") + ("..." if argument.nargs == -1 else "")


def _parameter(parameter: Any) -> list[str]:
    option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if option else [parameter.metavar or parameter.name.upper()]
    value = "" if option and parameter.is_flag else _value(parameter)
    return [", ".join(f"`{name}`" for name in names), value, _default(parameter), parameter.help or ""]


def _value(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    inner = next(iter(get_args(annotation)), annotation)
    word = " or ".join(f"`{choice.value}`" for choice in inner) if isinstance(inner, EnumType) else WORDS.get(inner, str(inner))
    low, high = parameter.min, parameter.max
    word += f", {low:g} to {high:g}" if low is not None and high is not None else f", at least {low:g}" if low is not None else ""
    return word + (", may repeat" if parameter.multiple or parameter.nargs == -1 else "")


def _default(parameter: Any) -> str:
    if parameter.name == "data_dir":
        return "`STAGELINE_DATA_DIR`, or `.stageline`"
    if parameter.required:
        return "required"
    return (
        f"`{parameter.default}`"
        if isinstance(parameter.default, str | int | float) and parameter.default not in (False, "")
        else ""
    )
