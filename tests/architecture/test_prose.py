"""Prose is plain English: comments, docstrings and documents avoid the words that readers had to decode."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INSTEAD = {
    r"who(so)?ever": "the noun: the caller, the reader, the new owner",
    r"(is|are|be|was|were|been) told": "gets, receives, is notified",
    r"says? who": "names the caller, the owner",
    r"anew": "again",
    r"parting": "shutdown, leaving the group",
    r"told before": "is a duplicate",
    r"settlers?": "BatchProcessor",
    r"desks?": "state",
    r"doors?": "gateway, HTTP API",
    r"park(s|ed|ing)?": "dead-letter",
    r"fold(s|ed|ing)?": "apply, project",
    r"lanes?": "branch",
    r"ledgers?": "budget",
    r"outlets?": "delivery",
    r"wish(es|ed)?": "request",
    r"absorb(s|ed)?": "apply a result",
}
"""Pattern of a phrase → the words to use instead (house rules, names and writing)."""

FORBIDDEN = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
CODE = re.compile(r"```.*?```|~~~.*?~~~|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL)
COMMENTED = {".sh", ".yaml", ".yml", ".toml", ""}

NOT_YET: tuple[str, ...] = ()
"""Beginnings of paths that may still hold such phrases. Entries are only ever removed."""


def files() -> list[str]:
    """Every committed file of text that people read, except those in `NOT_YET`."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [path for path in listed if is_prose(path) and not path.startswith(NOT_YET)]


def is_prose(path: str) -> bool:
    """True for Python, Markdown, and files whose comments begin with `#`."""
    return Path(path).suffix in {".py", ".md"} | COMMENTED and path != "LICENSE"


def prose(path: str, text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each comment, docstring and assertion message, or of each line of a document outside code."""
    if path.endswith(".py"):
        yield from _docstrings(text)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    elif path.endswith(".md"):
        blank = CODE.sub(lambda match: "\n" * match[0].count("\n"), text)
        yield from enumerate(blank.splitlines(), 1)
    else:
        yield from ((n, line.partition("#")[2]) for n, line in enumerate(text.splitlines(), 1) if "#" in line)


def _docstrings(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
        if isinstance(node, ast.Assert) and isinstance(node.msg, ast.Constant):
            yield node.lineno, str(node.msg.value)


def found(path: str, text: str) -> list[str]:
    """Forbidden phrases of a file, as `path:line: phrase`."""
    return [
        f"{path}:{line}: {match[0]}" for line, words in prose(path, text) for match in FORBIDDEN.finditer(CODE.sub("", words))
    ]


def test_prose_avoids_words_that_must_be_decoded() -> None:
    faults = [fault for path in files() for fault in found(path, (ROOT / path).read_text())]
    assert not faults, f"{faults}; use instead: {INSTEAD}"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", '"""The record goes to whoever owns it."""'),
        ("a.py", "x = 1  # the worker is told"),
        ("a.py", 'assert x, "the record is parked"'),
        ("a.md", "The Door answers."),
        ("a.yaml", "key: value  # starts anew"),
    ],
)
def test_the_rule_sees_each_kind_of_prose(path: str, text: str) -> None:
    assert len(found(path, text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "park = fold('whoever')"),
        ("a.py", "# `park` is a verb"),
        ("a.md", "`door`\n```text\nthe door\n```\n[x](door.md)"),
    ],
)
def test_the_rule_ignores_code(path: str, text: str) -> None:
    assert found(path, text) == []
