"""Random instances of a JSON Schema, as a writer may send them. The same seed makes the same bytes."""

from __future__ import annotations

import random
from typing import Any

import rstr

Schema = dict[str, Any]
WORDS = ("", "a", "Rechnung Ä", "契約書", "x" * 60, "🧾 receipt", "line\nbreak", "0", "true", "null", 'quote " and \\ slash')


class Instances:
    """Draws instances of `schema`, with and without optional fields, from every branch of a union."""

    def __init__(self, schema: Schema, seed: int) -> None:
        self.root = schema
        self.random = random.Random(seed)
        self.strings = rstr.Rstr(self.random)

    def draw(self) -> Any:
        """One instance."""
        return self._any(self.root, 0)

    def _any(self, node: Schema, depth: int) -> Any:
        if "$ref" in node:
            target: Any = self.root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            return self._any(target, depth)
        if "anyOf" in node:
            return self._any(self.random.choice(node["anyOf"]), depth)
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return self.random.choice(node["enum"])
        kind = node.get("type")
        if kind is None:
            return self._free(depth)
        return getattr(self, f"_{kind}")(node, depth)

    def _free(self, depth: int) -> Any:
        if depth > 3 or self.random.random() < 0.7:
            return self.random.choice([None, True, 0, -7, 1.5, *WORDS])
        if self.random.random() < 0.5:
            return [self._free(depth + 1) for _ in range(self.random.randrange(3))]
        return {f"k{n}": self._free(depth + 1) for n in range(self.random.randrange(3))}

    def _null(self, node: Schema, depth: int) -> None:
        return None

    def _boolean(self, node: Schema, depth: int) -> bool:
        return self.random.random() < 0.5

    def _integer(self, node: Schema, depth: int) -> int:
        low = node.get("minimum", node.get("exclusiveMinimum", -1) + 1 if "exclusiveMinimum" in node else -1000)
        return self.random.choice([low, low + 1, self.random.randint(low, int(node.get("maximum", low + 10**6)))])

    def _number(self, node: Schema, depth: int) -> float:
        low = node.get("minimum", node.get("exclusiveMinimum", -1000))
        value = round(self.random.uniform(low, node.get("maximum", low + 10**6)), 3)
        return value if value > low else low + 0.125

    def _string(self, node: Schema, depth: int) -> str:
        if node.get("format") == "date-time":
            r = self.random
            return f"20{r.randrange(20, 40)}-{r.randrange(1, 13):02}-{r.randrange(1, 29):02}T{r.randrange(24):02}:{r.randrange(60):02}:30.{r.randrange(1000):03}Z"
        if "pattern" in node:
            return self.strings.xeger(node["pattern"].replace("*", "{0,3}").replace("+", "{1,4}"))
        longest = "l" * node["maxLength"] if "maxLength" in node else "l"
        text = self.random.choice([*(w for w in WORDS if len(w) <= node.get("maxLength", 10**6)), longest])
        return text if len(text) >= node.get("minLength", 0) else "i" * node["minLength"]

    def _array(self, node: Schema, depth: int) -> list[Any]:
        count = self.random.randint(node.get("minItems", 0), min(node.get("maxItems", 3), node.get("minItems", 0) + 2))
        return [self._any(node.get("items", {}), depth + 1) for _ in range(count)]

    def _object(self, node: Schema, depth: int) -> dict[str, Any]:
        known, required = node.get("properties", {}), set(node.get("required", ()))
        # Our writers omit null values (`exclude_none`); others may send them, so both are drawn.
        found = {k: self._any(v, depth + 1) for k, v in known.items() if k in required or self.random.random() < 0.6}
        free = node.get("additionalProperties")
        if free not in (None, False):
            for n in range(self.random.randrange(3)):
                found[f"k{n}"] = self._any(free if isinstance(free, dict) else {}, depth + 1)
        return found


def opened(schema: Any, names: bool = False) -> Any:
    """The schema of a reader: every object may hold fields that it does not name."""
    if isinstance(schema, dict):
        closed = not names and schema.get("additionalProperties") is False
        return {
            k: opened(v, k in ("properties", "$defs")) for k, v in schema.items() if not (closed and k == "additionalProperties")
        }
    return [opened(item) for item in schema] if isinstance(schema, list) else schema
