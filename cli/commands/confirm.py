"""Asks before something is destroyed."""

from __future__ import annotations

import sys

import typer

from cli.target import CliError


def confirm(question: str, yes: bool) -> None:
    """Return when `yes` is given or a person agrees. Raises `CliError`: 2 where nobody can be asked, 1 when the answer is no."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise CliError(f"{question} Confirm with --yes", 2)
    if not typer.confirm(question, err=True):
        raise CliError("nothing is changed", 1)
