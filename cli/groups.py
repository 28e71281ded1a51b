"""How commands are grouped: a noun and its verbs, `--output` for each, an example in each help text, and safe suggestions.

A module of commands makes its group by `noun(…)`, or by `typer.Typer(…)`; `cli/main.py` registers it in one line. `Root` then gives every
command what all have in common.
"""

from __future__ import annotations

import difflib
import re
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli.output import Output, choose

DESTRUCTIVE = frozenset(
    ("cancel", "terminate", "erase", "delete", "revoke", "discard", "reset", "down", "refuse", "rotate", "disable", "stop", "rm")
)
"""Verbs that end or destroy something. A suggestion never names them."""
HELP = ("-h", "--help")
_EXAMPLE = re.compile(r"\s+Example: (.+)\Z", re.DOTALL)


class Panel(StrEnum):
    """Headings of the help, in their order."""

    DAILY = "Every day"
    NOUNS = "Nouns: stageline NOUN VERB"
    OPERATE = "Operating"
    HERE = "The pipeline on this machine"
    SHORT = "Short forms"


class Group(TyperGroup):
    """A noun with its verbs. `default` runs when the first argument is none of them."""

    default: str | None = None
    takes_arguments = False
    """True when the default verb takes arguments, as in `results ID`."""

    def with_default(self, args: list[str]) -> list[str]:
        """The arguments, with the default verb before them where they name none and ask for no help."""
        first = args[0] if args else ""
        if not self.default or first in self.commands or first in HELP:
            return args
        return [self.default, *args] if not first or first[0] == "-" or self.takes_arguments else args

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with the default verb where none is given."""
        return list(super().parse_args(ctx, self.with_default(args)))


class Listing(Group):
    """A noun that lists when no verb is given: `stageline jobs`."""

    default = "list"


class Showing(Group):
    """A noun that shows what is named: `stageline results ID`."""

    default = "show"
    takes_arguments = True


def noun(help_: str, kind: type[Group] = Group) -> typer.Typer:
    """A group of commands about one kind of thing."""
    return typer.Typer(help=help_, cls=kind, no_args_is_help=kind is Group)


class Root(Group):
    """The whole command line. Gives each command `--output`, its example, and no suggestions of the parser's own."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Help shows panels in the order of their first command.
        order = {panel: place for place, panel in enumerate(Panel)}
        self.commands = dict(
            sorted(self.commands.items(), key=lambda item: order.get(getattr(item[1], "rich_help_panel", None) or Panel.SHORT, 0))
        )
        _complete(self)


def suggestion(known: list[str], typed: str) -> str | None:
    """The known word nearest to what was typed, unless it destroys something."""
    near = difflib.get_close_matches(typed, [word for word in known if word not in DESTRUCTIVE], n=1)
    # A destructive verb that is nearer was probably meant: then nothing is suggested.
    meant = difflib.get_close_matches(typed, known, n=1)
    return near[0] if near and near == meant else None


def _complete(command: Any) -> None:
    # A command keeps the help option of its first context, which can be one without a parent.
    command.context_settings = {"help_option_names": list(HELP), **(command.context_settings or {})}
    children = getattr(command, "commands", None)
    if children is not None:
        command.suggest_commands = False
        for child in children.values():
            _complete(child)
        return
    if not any("--output" in parameter.opts for parameter in command.params):
        command.params.append(_output_option())
    found = _EXAMPLE.search(command.help or "")
    if found:
        command.help = (command.help or "")[: found.start()]
        command.epilog = "Example: " + " ".join(found[1].split())


def _output_option() -> Any:
    """The option `--output`, whose value `cli.output` keeps."""
    carrier = typer.Typer(add_completion=False)

    @carrier.command()
    def command(
        output: Annotated[
            Output, typer.Option("--output", "-o", help="Format of the output", callback=choose, expose_value=False)
        ] = Output.TABLE,
    ) -> None:
        """Carries the option."""

    return next(p for p in typer.main.get_command(carrier).params if p.name == "output")
