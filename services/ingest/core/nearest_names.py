"""The names that a caller may have meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST = 3
NEAR = 0.6
"""Least likeness of a name that is suggested, from 0 to 1."""


def nearest(wanted: str, names: Iterable[str]) -> list[str]:
    """The names most like `wanted`, the most like first. Case is ignored, and a name that begins with `wanted` is near."""
    by_small = {name.lower(): name for name in sorted(names)}
    small = wanted.lower()
    like = get_close_matches(small, by_small, MOST, NEAR)
    begun = [name for name in by_small if small and name.startswith(small)]
    return [by_small[name] for name in dict.fromkeys([*like, *begun])][:MOST]


def unknown_workflow(wanted: str, version: int | None, known: dict[str, list[int]]) -> tuple[str, str]:
    """(field, sentence) for a workflow that is not among the `known` ones, which are names with their versions."""
    if wanted in known and version is not None:
        versions = ", ".join(str(number) for number in sorted(known[wanted]))
        return "workflow_version", f"workflow {wanted} has no version {version}; it has {versions}"
    found = nearest(wanted, known)
    hint = f"the nearest names are {', '.join(found)}" if found else "GET /v1/workflows lists those that you may run"
    return "workflow", f"there is no workflow {wanted[:100]!r}; {hint}"
