"""`when` of a step: a condition in CEL (https://cel.dev) over what is known of the file and the job. Total and without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cel import Program

MAX_LENGTH = 500
MAX_LOOPS = 2
"""Macros that go through a list may be nested; more of them could keep the orchestrator busy for seconds."""
NAMES = frozenset({"file", "tag", "score", "metadata", "results", "job"})
_LOOP = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")


class ConditionFailed(ValueError):
    """The condition could not be told to be true or false for these facts."""


@lru_cache(maxsize=1000)
def program(expression: str) -> Program:
    """The compiled expression. Raises `ValueError` saying what is wrong with it."""
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"at most {MAX_LENGTH} characters")
    if len(_LOOP.findall(expression)) > MAX_LOOPS:
        raise ValueError(f"at most {MAX_LOOPS} of all, exists, exists_one, map and filter")
    # Imported here: it brings a command line of its own along (10 MiB), and most workflows have no conditions.
    from cel import compile

    try:
        return compile(expression)
    except ValueError as error:
        # The parser draws the place under the text; one line is enough here.
        raise ValueError(" ".join(str(error).split())[:300]) from None


def _value(expression: str, facts: Mapping[str, Any]) -> Any:
    try:
        return program(expression).execute(dict(facts))
    except KeyError as error:
        raise ConditionFailed(f"{expression!r}: there is no {error.args[0]!r}; has(…) asks whether there is") from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConditionFailed(f"{expression!r}: {' '.join(str(error).split())[:300]}") from None


def moment(expression: str, facts: Mapping[str, Any]) -> float:
    """The time that the expression gives, in Unix seconds. Raises `ConditionFailed` when it gives none."""
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
    """Whether the condition holds. Raises `ConditionFailed` when it is no yes or no, or names what is not there (see CEL's `has`)."""
    found = _value(expression, facts)
    if not isinstance(found, bool):
        raise ConditionFailed(f"{expression!r}: gives {type(found).__name__}, not true or false")
    return found
