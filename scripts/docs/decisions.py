"""The index of the decisions, from the heads of their pages."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from scripts.docs.markdown import table

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
HEAD = re.compile(r"# (\d{4})\. (.+)\n\n(\d{4}-\d{2}-\d{2}) · (\w+)\n")


class Page(NamedTuple):
    """Head of a decision's page."""

    file: str
    number: str
    title: str
    date: str
    area: str


def pages() -> list[Page]:
    """All pages in order of number. Raises `ValueError` with the name of a page whose head is invalid."""
    found = []
    for path in sorted(FOLDER.glob("[0-9]*.md")):
        head = HEAD.match(path.read_text())
        if head is None:
            raise ValueError(f"{path.name}: the head is not '# NNNN. Title', an empty line, and 'YYYY-MM-DD · area'")
        found.append(Page(path.name, *head.groups()))
    return found


def index() -> str:
    """A table per area, in the order of each area's first page."""
    known = pages()
    order = {page.area: place for place, page in reversed(list(enumerate(known)))}
    known.sort(key=lambda page: (order[page.area], page.number))
    parts = []
    for area, members in groupby(known, key=lambda page: page.area):
        rows = [[page.number, f"[{page.title}]({page.file})", page.date] for page in members]
        parts.append(f"## {area.capitalize()}\n\n{table(['', 'decision', 'date'], rows)}")
    return "\n\n".join(parts)
