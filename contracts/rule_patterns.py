"""Rules of `text.classify` that a workflow brings: their limits, and their patterns for an engine of linear time (RE2). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Strict

MAX_TAGS, MAX_RULES, MAX_PATTERN = 100, 500, 1000
"""Tags and patterns of a step at most, and characters of one pattern."""
MAX_WEIGHT = 1_000_000
RULE_MEMORY = 1 << 20
"""Bytes that the engine may use for one pattern."""


def _few(rules: Mapping[str, Mapping[str, float]]) -> Any:
    count = sum(map(len, rules.values()))
    if count > MAX_RULES:
        raise ValueError(f"{count} patterns; at most {MAX_RULES} are allowed")
    return rules


Pattern = Annotated[str, Field(max_length=MAX_PATTERN)]
Weight = Annotated[float, Strict(), Field(ge=0, le=MAX_WEIGHT, allow_inf_nan=False)]
Rules = Annotated[dict[str, dict[Pattern, Weight]], Field(max_length=MAX_TAGS), AfterValidator(_few)]
"""Tag → pattern → weight."""

_CLASSES = {
    "w": r"\p{L}\p{N}_",
    "d": r"\p{Nd}",
    "s": r"\s\x{0b}\x{1c}-\x{1f}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}",
}


def unicode_classes(pattern: str) -> str:
    r"""`pattern` with Python's meaning of `\w`, `\d`, `\s` and `\Z`, where RE2 has others. `\b` stays: it knows ASCII words alone."""
    made: list[str] = []
    within = False
    escaped = False
    for character in pattern:
        if not escaped:
            escaped = character == "\\"
            within = character != "]" if within else character == "["
            made.append("" if escaped else character)
            continue
        escaped = False
        small = character.lower()
        if small in _CLASSES and (character == small or not within):
            inner = _CLASSES[small]
            made.append(inner if within else f"[{'' if character == small else '^'}{inner}]")
        else:
            made.append("\\z" if character == "Z" else "\\" + character)
    return "".join(made) + ("\\" if escaped else "")
