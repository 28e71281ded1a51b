"""The table of the built-in actions' parameters, for the workflow schema."""

from __future__ import annotations

from contracts.actions import ACTIONS, OBJECT, OPEN, SECRET, Action
from scripts.docs.markdown import table


def parameters() -> str:
    """One line per parameter: the actions that have it, its meaning, and whether a job may set it."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for action, row in ACTIONS.items():
        for name, field in row.parameters.model_fields.items():
            lines.setdefault((name, f"{field.description}{_kind(row, name)}", _open(row, name)), []).append(action)
    rows = [
        (f"`{name}`", ", ".join(f"`{a}`" for a in actions), meaning, opened) for (name, meaning, opened), actions in lines.items()
    ]
    return table(("parameter", "of", "meaning", "a job may set it"), rows)


def _open(row: Action, name: str) -> str:
    return "yes" if OPEN in row.uses(name) else "no"


def _kind(row: Action, name: str) -> str:
    if SECRET in row.uses(name):
        return "; a [secret's](../how-to/secrets.md) name"
    return "; of the job's tenant" if OBJECT in row.uses(name) else ""
