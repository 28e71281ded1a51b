"""Patterns of rules, tried before a workflow is published: the worker compiles them in the same way. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import re2

from contracts.rule_patterns import RULE_MEMORY, unicode_classes

MOST_TRIED = 100
"""Patterns of a step that are tried. The worker judges those that are left."""


def pattern_fault(rules: Mapping[str, Mapping[str, float]]) -> tuple[str, str] | None:
    """The first tag with a pattern that cannot be compiled, and the reason; None when none was found.

    A hostile pattern takes 50 ms, so only patterns of trusted authors are tried.
    """
    listed = ((tag, pattern) for tag, patterns in rules.items() for pattern in patterns)
    for tag, pattern in islice(listed, MOST_TRIED):
        if (reason := _reason(pattern)) is not None:
            return tag, f"{pattern[:80]!r}: {reason}"
    return None


def _reason(pattern: str) -> str | None:
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.max_mem = False, False, RULE_MEMORY
    try:
        re2.compile(unicode_classes(pattern), options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be compiled"
        return (reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason))[:200]
    return None
