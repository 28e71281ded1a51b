"""Conditions and times of steps in CEL (https://cel.dev), over facts of the file and the job. CEL always ends and does no I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cel import Program

MAX_LENGTH = 500
"""Characters of an expression."""
MAX_LOOPS = 2
"""Macros that loop over a list, in one expression. Nested loops could keep the orchestrator busy for seconds."""
MAX_MATCHES = 4
"""Calls of `matches` in one expression. None of them may stand in a loop, which would search the same text again and again."""
MAX_PATTERN, MAX_REPEATS = 200, 100
"""Characters of a pattern, and the product of its counted repeats (`{2,4}` counts 4): the engine unrolls them."""
NAMES = frozenset({"file", "tag", "score", "metadata", "results", "job"})
_LOOP = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")

_TEXT = re.compile(
    r"//[^\n]*|[bB]?[rR](?:\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*')"
    r"|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'",
    re.DOTALL,
)
"""A comment or a text of CEL."""
_MATCHES = re.compile(r"\bmatches\s*\(")
_MATCHES_TEXT = re.compile(r"\bmatches\s*\(\s*\"(\d+)\"\s*\)")
_REPEAT = re.compile(r"\{(\d{1,9}),?(\d{0,9})\}")


class ConditionFailed(ValueError):
    """An expression has no value of the right type for these facts; or a step cannot begin with them."""


@lru_cache(maxsize=1000)
def program(expression: str) -> Program:
    """Compile an expression. Raises `ValueError` saying what is wrong with it."""
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"at most {MAX_LENGTH} characters")
    if len(_LOOP.findall(expression)) > MAX_LOOPS:
        raise ValueError(f"at most {MAX_LOOPS} of all, exists, exists_one, map and filter")
    _check_patterns(expression)
    # Imported here: it is large, and most workflows have no conditions.
    from cel import compile

    try:
        return compile(expression)
    except ValueError as error:
        # The parser draws a picture of several lines; a message needs one.
        raise ValueError(" ".join(str(error).split())[:300]) from None


def _check_patterns(expression: str) -> None:
    """Refuse regular expressions that could keep the orchestrator busy. Raises `ValueError`."""
    texts: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found.group().startswith("//"):
            return " "
        texts.append(found.group())
        return f'"{len(texts) - 1}"'

    bare = _TEXT.sub(numbered, expression)
    calls = len(_MATCHES.findall(bare))
    patterns = [texts[int(number)] for number in _MATCHES_TEXT.findall(bare)]
    if calls != len(_MATCHES.findall(expression)) or calls != len(patterns):
        raise ValueError("matches: its pattern is written in the expression as one text")
    if calls > MAX_MATCHES or (calls and _LOOP.search(bare)):
        raise ValueError(f"matches: at most {MAX_MATCHES} times, and not beside all, exists, exists_one, map and filter")
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN or math.prod(int(most or least) for least, most in _REPEAT.findall(pattern)) > MAX_REPEATS:
            raise ValueError(
                f"matches: a pattern has at most {MAX_PATTERN} characters, and repeats by counts multiply to {MAX_REPEATS}"
            )


def _value(expression: str, facts: Mapping[str, Any]) -> Any:
    try:
        return program(expression).execute(dict(facts))
    except KeyError as error:
        raise ConditionFailed(f"{expression!r}: there is no {error.args[0]!r}; has(…) asks whether there is") from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConditionFailed(f"{expression!r}: {' '.join(str(error).split())[:300]}") from None


def moment(expression: str, facts: Mapping[str, Any]) -> float:
    """The time that the expression gives, in Unix seconds: a timestamp, RFC 3339 text or a number. Raises `ConditionFailed`."""
    found = _value(expression, facts)
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            raise ConditionFailed(f"{expression!r}: {found[:100]!r} is no time") from None
    if isinstance(found, datetime):
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < 1e11:
        raise ConditionFailed(f"{expression!r}: gives {type(found).__name__}, not a time")
    return float(found)


def holds(expression: str, facts: Mapping[str, Any]) -> bool:
    """True when the condition holds. Raises `ConditionFailed` for a value that is no boolean and for a name that is missing."""
    found = _value(expression, facts)
    if not isinstance(found, bool):
        raise ConditionFailed(f"{expression!r}: gives {type(found).__name__}, not true or false")
    return found
