"""FULL_TRANSITIVE by a subset test in both directions: readers of either version understand the writers of the other.

Writers are closed: they send only the fields of their schema. Readers are open: they ignore other fields. So a change is
compatible when closed(old) is a subset of open(new), and closed(new) of open(old). The test is structural; it refuses what it
cannot prove. Method: reference/reliability-contracts-telemetry.md part B1. Three rules go beyond the subset, where JSON Schema
does not show the harm: a field must be deprecated before it is removed, a default must not change, and a `const` or an enum is
compared by its values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
BACKWARD, FORWARD, MEANING = "BACKWARD", "FORWARD", "MEANING"


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason to refuse a change: the direction, the path of the field, and the reason."""

    direction: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.direction}: {self.path or '(root)'}: {self.reason}"


def full_transitive(old: Schema, new: Schema) -> list[Fault]:
    """Faults of a change from `old` to `new`. Empty when the change is FULL compatible."""
    found = [Fault(BACKWARD, path, reason) for path, reason in Comparison(old, new).subset(old, new, "")]
    found += [Fault(FORWARD, path, reason) for path, reason in Comparison(new, old).subset(new, old, "")]
    found += [Fault(MEANING, path, reason) for path, reason in Comparison(old, new).meaning(old, new, "")]
    return list(dict.fromkeys(found))


Reasons = Iterator[tuple[str, str]]


class Comparison:
    """Compares the writer's schema with the reader's. Both are whole documents, because `$ref`s point into them."""

    def __init__(self, writer: Schema, reader: Schema) -> None:
        self.writer = writer
        self.reader = reader

    def _see(self, node: Schema, root: Schema) -> Schema:
        while "$ref" in node:
            target: Any = root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
        return node

    def _branches(self, node: Schema, root: Schema) -> list[Schema]:
        node = self._see(node, root)
        for word in ("anyOf", "oneOf"):
            if word in node:
                return [leaf for branch in node[word] for leaf in self._branches(branch, root)]
        if isinstance(node.get("type"), list):
            return [{**node, "type": kind} for kind in node["type"]]
        return [node]

    def subset(self, writer: Schema, reader: Schema, path: str) -> Reasons:
        """Paths and reasons where the writer may send a value that the reader does not accept."""
        readers = self._branches(reader, self.reader)
        for branch in self._branches(writer, self.writer):
            reasons = [list(self._leaf(branch, other, path)) for other in readers]
            if all(reasons):
                # The reader's branch with the fewest reasons gives the most useful message.
                same = [r for r, other in zip(reasons, readers, strict=True) if kind_of(other) == kind_of(branch)]
                yield from min(same, key=len) if same else [(path, f"{shown(branch)} is not {' or '.join(map(shown, readers))}")]

    def _leaf(self, writer: Schema, reader: Schema, path: str) -> Reasons:
        kinds = kind_of(writer), kind_of(reader)
        if kinds[1] == "any":
            return
        if words_of(reader) is not None or words_of(writer) is not None:
            yield from self._words(writer, reader, path)
        elif kinds[0] != kinds[1] and kinds != ("integer", "number"):
            yield path, f"{shown(writer)} is not {shown(reader)}"
        elif kinds[0] == "object":
            yield from self._object(writer, reader, path)
        elif kinds[0] == "array":
            yield from self._array(writer, reader, path)
        else:
            yield from limits(writer, reader, path)

    def _words(self, writer: Schema, reader: Schema, path: str) -> Reasons:
        mine, theirs = words_of(writer), words_of(reader)
        if mine is None:
            yield path, f"{shown(writer)} is more than {shown(reader)}"
        elif theirs is not None:
            unknown = [word for word in mine if word not in theirs]
            if unknown:
                yield path, f"the value {unknown[0]!r} is unknown to the reader"
        elif kind_of(reader) != kind_of(writer):
            yield path, f"{shown(writer)} is not {shown(reader)}"
        else:
            longest = max((len(word) for word in mine if isinstance(word, str)), default=0)
            if longest > reader.get("maxLength", longest) or "pattern" in reader:
                yield path, f"{shown(writer)} is not {shown(reader)}"

    def _array(self, writer: Schema, reader: Schema, path: str) -> Reasons:
        yield from self.subset(writer.get("items", {}), reader.get("items", {}), f"{path}[]")
        yield from limits(writer, reader, path)
        if reader.get("uniqueItems") and not writer.get("uniqueItems"):
            yield path, "items must be unique to the reader"
        if writer.get("prefixItems") != reader.get("prefixItems"):
            yield path, "tuples differ"

    def _object(self, writer: Schema, reader: Schema, path: str) -> Reasons:
        mine, theirs = writer.get("properties", {}), reader.get("properties", {})
        for name in reader.get("required", []):
            if name not in writer.get("required", []):
                yield join(path, name), "required by the reader, and a writer may leave it out"
        rest = reader.get("additionalProperties")
        for name, schema in mine.items():
            if name in theirs:
                yield from self.subset(schema, theirs[name], join(path, name))
            elif isinstance(rest, dict):
                yield from self.subset(schema, rest, join(path, name))
        free = writer.get("additionalProperties")
        if free in (None, False):
            return
        if theirs and not mine:
            yield path, "any name may be written, and the reader expects fields"
        elif isinstance(rest, dict):
            yield from self.subset(free if isinstance(free, dict) else {}, rest, f"{path}.*")

    def meaning(self, old: Schema, new: Schema, path: str) -> Reasons:
        """Fields that are removed without a deprecation, and defaults that change; recursively."""
        pairs = zip(self._branches(old, self.writer), self._branches(new, self.reader), strict=False)
        for before, after in pairs:
            mine, theirs = before.get("properties", {}), after.get("properties", {})
            for name, schema in mine.items():
                where = join(path, name)
                if name not in theirs:
                    if not self._see(schema, self.writer).get("deprecated"):
                        yield where, "gone or renamed, and was not marked deprecated in a release before"
                    continue
                was, now = schema.get("default"), theirs[name].get("default")
                if "default" in schema and was != now:
                    yield where, f"the default was {was!r} and is {now!r}"
                yield from self.meaning(schema, theirs[name], where)
            if "items" in before and "items" in after:
                yield from self.meaning(before["items"], after["items"], f"{path}[]")


def join(path: str, name: str) -> str:
    """The path of the field `name` below `path`, e.g. `a.b`."""
    return f"{path}.{name}" if path else name


def kind_of(node: Schema) -> str:
    """JSON type of a leaf; `any` when it gives none."""
    words = words_of(node)
    if words:
        return {str: "string", bool: "boolean", int: "integer", float: "number"}.get(type(words[0]), "null")
    return str(node.get("type", "any"))


def words_of(node: Schema) -> list[Any] | None:
    """The values of a leaf's `const` or `enum`, or None."""
    return [node["const"]] if "const" in node else node.get("enum")


def shown(node: Schema) -> str:
    """A leaf in words, for messages."""
    words = words_of(node)
    return f"one of {', '.join(map(repr, words))}" if words else kind_of(node)


_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def limits(writer: Schema, reader: Schema, path: str) -> Reasons:
    """Bounds, patterns and formats that the reader requires and the writer does not guarantee."""
    for word in _LOWER:
        if word in reader and writer.get(word, float("-inf")) < reader[word]:
            yield path, f"{word} {reader[word]} is demanded, {writer.get(word, 'nothing')} promised"
    for word in _UPPER:
        if word in reader and writer.get(word, float("inf")) > reader[word]:
            yield path, f"{word} {reader[word]} is demanded, {writer.get(word, 'nothing')} promised"
    for word in ("pattern", "format", "multipleOf"):
        if word in reader and writer.get(word) != reader[word]:
            yield path, f"{word} {reader[word]!r} is demanded, {writer.get(word, 'nothing')!r} promised"
