"""Regular expressions in conditions: honest ones hold, and none keeps the orchestrator busy."""

from __future__ import annotations

import time

import pytest

from services.job_orchestrator.core.condition import ConditionFailed, holds, program

FACTS = {"file": {"name": "scan-2026.pdf"}, "metadata": {"text": "a" * 60_000, "pattern": "a", "list": [1] * 1000}}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (r'file.name.matches("^scan-[0-9]{4}\\.pdf$")', True), (r"file.name.matches(r'\.png$')", False),
        ('metadata.pattern == "it matches"', False), ('file.name.matches("a") || file.name . matches ( "pdf" )', True),
        ('metadata.list.all(x, x == 1) // no matches here', True), ("metadata.pattern != 'matches'", True),
    ],
)  # fmt: skip
def test_honest_expressions_hold(expression: str, found: bool) -> None:
    assert holds(expression, FACTS) is found


@pytest.mark.parametrize(
    "expression",
    [
        r'metadata.list.all(x, "aaa".matches("a{1,50}\\w{1,9}"))', "metadata.text.matches(metadata.pattern)",
        'metadata.text.matches("(a{1,50}){1,50}b")', 'metadata.text.matches("a" + "b")', 'metadata.text.matches("' + "a" * 201 + '")',
        'file.name.matches // "x"\n (metadata.pattern)', 'matches(file.name, metadata.pattern)',
        " || ".join(['file.name.matches("a")'] * 5), 'file.name == "x.matches(" || file.name.matches(metadata.pattern)',
        r'file.name == r"\" || metadata.text.matches(metadata.pattern) || file.name == "\""',
    ],
)  # fmt: skip
def test_patterns_that_could_take_long_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="matches"):
        program(expression)
    with pytest.raises(ConditionFailed):
        holds(expression, FACTS)


@pytest.mark.parametrize(
    "pattern",
    [r"(\\w{1,10}){1,10}b$", "(a|aa|a*)*b$", r"(\\pL{1,10}){1,10}b", "a{1,100}b$", "[ab]*a[ab]{100}c", r"\\w" * 60 + "b"],
)
def test_every_pattern_that_passes_ends_soon(pattern: str) -> None:
    expression = f'metadata.text.matches("{pattern}")'
    program(expression)
    took = []
    for _ in range(2):
        before = time.process_time()
        holds(expression, FACTS)
        took.append(time.process_time() - before)
    assert min(took) < 1
