"""The docstrings of the models' fields, read from the source, as descriptions in the generated documents."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from contracts.message import Contract

Node = dict[str, Any]


def contracts() -> Iterator[type[Contract]]:
    """`Contract` and all classes derived from it."""
    waiting = [Contract]
    while waiting:
        cls = waiting.pop()
        yield cls
        waiting += cls.__subclasses__()


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _own(cls: type) -> dict[str, str]:
    node = _classes(cls.__module__).get(cls.__name__)
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False) if node else ():
        text = below.value if isinstance(below, ast.Expr) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Constant):
            found[field.target.id] = " ".join(str(text.value).split())
    return found


@cache
def texts() -> dict[str, dict[str, str]]:
    """Class name → field name → docstring, inherited fields included."""
    found: dict[str, dict[str, str]] = {}
    for cls in contracts():
        words: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Contract):
                words |= _own(base)
        found[cls.__name__] = words
    return found


def described(parts: Node) -> Node:
    """`parts` (class name → schema) with each field's docstring as its description. Changes `parts`."""
    for name, schema in parts.items():
        for field, words in texts().get(name, {}).items():
            if field in schema.get("properties", {}):
                schema["properties"][field] = {**schema["properties"][field], "description": words}
    return parts
