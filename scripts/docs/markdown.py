"""Markdown tables and the first line of a docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; `|` in a cell is escaped. Cells hold Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring as one line; empty without one."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
