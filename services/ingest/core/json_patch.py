"""Changes of a JSON document: merge patches (RFC 7396) and patches (RFC 6902). Pure: the document given is left as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

MOST_OPERATIONS = 200
MOST_VALUES, MOST_LEVELS = 200_000, 100
"""Values that one patch may place, and how deep: a few copies of a copy could otherwise fill the memory."""


class BadPatch(ValueError):
    """The patch cannot be applied. The message names the operation."""


def merged(document: Any, patch: Any) -> Any:
    """The document after a merge patch: members replace members, null deletes one, all else replaces the whole."""
    if not isinstance(patch, dict):
        return patch
    base = document if isinstance(document, dict) else {}
    found = {name: value for name, value in base.items() if name not in patch}
    for name, value in patch.items():
        if value is not None:
            found[name] = merged(base.get(name), value)
    return found


def patched(document: Any, operations: Any) -> Any:
    """The document after a patch. Raises `BadPatch`; then no operation counts."""
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise BadPatch(f"a list of at most {MOST_OPERATIONS} operations is expected")
    made = _Patched(copy.deepcopy(document))
    for number, operation in enumerate(operations):
        try:
            made.apply(operation)
        except BadPatch as error:
            raise BadPatch(f"operation {number}: {error}") from None
    return made.document


class _Patched:
    def __init__(self, document: Any) -> None:
        self.document = document
        self.room = MOST_VALUES

    def apply(self, operation: Any) -> None:
        if not isinstance(operation, dict):
            raise BadPatch("an object is expected")
        run = _OPERATIONS.get(str(operation.get("op")))
        if run is None:
            raise BadPatch(f"op: one of {', '.join(_OPERATIONS)} is expected")
        run(self, operation)

    def add(self, operation: dict[str, Any]) -> None:
        self.place(_tokens(operation, "path"), _value(operation))

    def remove(self, operation: dict[str, Any]) -> None:
        self.take(_tokens(operation, "path"))

    def replace(self, operation: dict[str, Any]) -> None:
        path = _tokens(operation, "path")
        value = _value(operation)
        self.take(path)
        self.place(path, value)

    def move(self, operation: dict[str, Any]) -> None:
        source, target = _tokens(operation, "from"), _tokens(operation, "path")
        if target[: len(source)] == source and target != source:
            raise BadPatch("from: a value cannot move into itself")
        self.place(target, self.take(source))

    def copy(self, operation: dict[str, Any]) -> None:
        value = self.look(_tokens(operation, "from"))
        self._count(value)
        self.place(_tokens(operation, "path"), copy.deepcopy(value))

    def test(self, operation: dict[str, Any]) -> None:
        if not _equal(self.look(_tokens(operation, "path")), _value(operation)):
            raise BadPatch("test: the value differs")

    def look(self, path: Sequence[str]) -> Any:
        found = self.document
        for token in path:
            found = found[_place(found, token, 0)]
        return found

    def take(self, path: Sequence[str]) -> Any:
        if not path:
            found, self.document = self.document, None
            return found
        parent = self.look(path[:-1])
        return parent.pop(_place(parent, path[-1], 0))

    def place(self, path: Sequence[str], value: Any) -> None:
        if len(path) > MOST_LEVELS:
            raise BadPatch(f"path: more than {MOST_LEVELS} levels")
        self._count(value, MOST_LEVELS - len(path))
        if not path:
            self.document = value
            return
        parent = self.look(path[:-1])
        if isinstance(parent, dict):
            parent[path[-1]] = value
        else:
            at = _place(parent, path[-1], 1)
            parent.insert(at, value)

    def _count(self, value: Any, levels: int = MOST_LEVELS) -> None:
        level = [value]
        while level:
            self.room -= len(level)
            levels -= 1
            if self.room < 0 or levels < 0:
                raise BadPatch(f"more than {MOST_VALUES} values, or more than {MOST_LEVELS} levels")
            level = [inner for one in level for inner in _inner(one)]


_OPERATIONS: dict[str, Callable[[_Patched, dict[str, Any]], None]] = {
    "add": _Patched.add, "remove": _Patched.remove, "replace": _Patched.replace, "move": _Patched.move, "copy": _Patched.copy,
    "test": _Patched.test,
}  # fmt: skip


def _inner(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _tokens(operation: dict[str, Any], name: str) -> list[str]:
    pointer = operation.get(name)
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise BadPatch(f"{name}: a JSON pointer is expected")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise BadPatch("value: is missing")
    return operation["value"]


def _place(parent: Any, token: str, beyond: int) -> Any:
    """The key or index that `token` names in `parent`; with `beyond` 1 also the place after a list's last item."""
    if isinstance(parent, dict) and token in parent:
        return token
    if isinstance(parent, list):
        if token == "-" and beyond:
            return len(parent)
        if token.isascii() and token.isdigit() and (token == "0" or token[0] != "0") and int(token) < len(parent) + beyond:
            return int(token)
    raise BadPatch(f"path: there is no {token[:100]!r}")


def _equal(one: Any, other: Any) -> bool:
    # In Python true equals 1; in JSON it does not.
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
