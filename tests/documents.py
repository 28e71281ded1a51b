"""Parses the documents for tests: pages, fenced blocks and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TUTORIALS = tuple(ROOT / "docs" / "tutorial" / f"{name}.md" for name in ("first-job", "first-worker", "first-workflow"))
_FENCE = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
_TITLE = re.compile(r'title="([^"]+)"')
_PROGRAM = re.compile(r"(?:\.venv/bin/)?stageline")
_ENDS_A_COMMAND = re.compile(r"[();<>|&]+")


@dataclass(frozen=True)
class Block:
    """A fenced block. `mark` is the comment on the line before it, `title` the file that a reader saves it as."""

    page: Path
    mark: str
    language: str
    title: str | None
    text: str

    @property
    def lines(self) -> list[str]:
        """Its command lines, without comments and empty lines. Continued lines are joined."""
        joined = self.text.replace("\\\n", " ")
        found = (re.sub(r"(^|\s)#.*$", "", line).rstrip() for line in joined.splitlines())
        return [line for line in found if line]


def pages() -> list[Path]:
    """Every page for users: the README and all of docs/."""
    return [README, *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in _FENCE.finditer(page.read_text()):
        title = _TITLE.search(found["info"])
        yield Block(page, found["mark"] or "", found["info"].split(" ")[0], title and title[1], found["text"])


def calls(line: str) -> list[list[str]]:
    """The arguments of each call of `stageline` in a line of shell, also within `$(…)` and after `|` or `&&`."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    words.commenters = ""
    found: list[list[str]] = []
    current: list[str] | None = None
    for word in words:
        if _PROGRAM.fullmatch(word):
            current = []
            found.append(current)
        elif _ENDS_A_COMMAND.fullmatch(word):
            current = None
        elif current is not None:
            current.append(word)
    return found
