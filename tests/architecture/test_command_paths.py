"""Names in the paths of the command line's requests are quoted: they come from `route` or `quote`, never from a bare f-string."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

from tests.architecture.sources import ROOT, parsed

ALLOWED = {"cli/commands/webhooks.py"}
"""Modules whose f-string ends with a path that they have quoted before."""


def bare(path: Path) -> list[int]:
    """Lines of f-strings that begin as a path of the API and hold, before the query, a value that is not quoted there."""
    return [
        node.lineno
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.JoinedStr)
        and isinstance(node.values[0], ast.Constant)
        and str(node.values[0].value).startswith(("/v1/", "/api/"))
        and not all(map(is_quoted, values_before_the_query(node)))
    ]


def values_before_the_query(text: ast.JoinedStr) -> list[ast.expr]:
    """The values of an f-string that stand before its question mark."""
    parts = itertools.takewhile(lambda part: not (isinstance(part, ast.Constant) and "?" in str(part.value)), text.values)
    return [part.value for part in parts if isinstance(part, ast.FormattedValue)]


def is_quoted(value: ast.expr) -> bool:
    """True for a call of `quote`, and for a constant verb that the function takes as `verb`."""
    called = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "quote"
    return called or (isinstance(value, ast.Name) and value.id == "verb")


def test_every_name_in_a_path_is_quoted() -> None:
    modules = [path for path in (ROOT / "cli").rglob("*.py") if path.name != "demo.py"]
    found = {f"{path.relative_to(ROOT)}:{line}" for path in modules for line in bare(path)}
    assert not {place for place in found if place.partition(":")[0] not in ALLOWED}, "use cli.target.route"
