"""What the vendors' own clients do against this pipeline: a table per client, from `tests/clients/results/*.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from scripts.docs.markdown import table

FOLDER = Path(__file__).parents[2] / "tests" / "clients" / "results"
HEAD = """## What the vendor's clients do

The tests run the vendor's client, unmodified, against a running pipeline: each public method with each credential."""


def section(vendor: str) -> Callable[[], str]:
    """A function that makes the section of a vendor's guide. The section is empty while no client's results are recorded."""

    def make() -> str:
        found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
        parts = [_client(results) for results in found if results["vendor"] == vendor]
        return "\n" + "\n\n".join([HEAD, *parts]) + "\n" if parts else ""

    return make


def _client(results: dict[str, Any]) -> str:
    """A table of method × credential, and under it why something differs."""
    credentials = list(dict.fromkeys(c for call in results["calls"] for c in call["results"]))
    reasons: dict[str, int] = {}

    def cell(said: str) -> str:
        word, _, reason = said.partition(": ")
        return f"{word} ({reasons.setdefault(reason, len(reasons) + 1)})" if reason else word

    rows = [[method, *(cell(by.get(c, "")) for c in credentials)] for method, by in _together(results["calls"])]
    listed = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n\n".join(
        [
            f"### {results['client']} {results['version']}",
            table(["method", *credentials], rows),
            *(["\n".join(listed)] if listed else []),
        ]
    )


def _together(calls: list[dict[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """One row for a method that is called in several ways with the same results, such as `on(event name)`."""
    rows = []
    for (base, _), group in groupby(calls, key=lambda call: (call["method"].partition("(")[0], json.dumps(call["results"]))):
        same = list(group)
        name = f"`{same[0]['method']}`" if len(same) == 1 else f"`{base}`, each of {len(same)} names"
        rows.append((name, same[0]["results"]))
    return rows
