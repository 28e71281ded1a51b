"""The table of generated documents: whole files, and sections between markers in hand-written files."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from contracts.registry import asyncapi, catalogue
from scripts.docs import clients, commands, decisions, erasure, figures, golden, kit, parameters, settings, states, topics
from tests.contracts.examples import examples

ROOT = Path(__file__).parents[2]
START, END = "<!-- generated: {} -->", "<!-- end -->"


def code_of(path: str, language: str) -> str:
    """A file as a block of code."""
    return f"```{language}\n{(ROOT / path).read_text()}```"


SECTIONS: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    Path("docs/decisions/README.md"): {"decisions": decisions.index},
    Path("docs/explanation/erasure.md"): {"remaining": erasure.remaining},
    Path("docs/explanation/job-states.md"): {"states": states.diagram, "state-table": states.table_of_transitions},
    Path("docs/explanation/performance.md"): {"performance": figures.current},
    Path("docs/how-to/behind-a-proxy.md"): {"nginx": lambda: code_of("deploy/nginx/stageline.conf", "nginx")},
    Path("docs/how-to/migrate-from-alfred.md"): {"clients": clients.section("alfred")},
    Path("docs/how-to/migrate-from-invopop.md"): {"clients": clients.section("invopop")},
    Path("docs/how-to/migrate-from-pdftools.md"): {"clients": clients.section("pdftools")},
    Path("docs/reference/workflow-schema.md"): {"parameters": parameters.parameters},
}
"""File → marker → function that returns the section's text."""


def version() -> str:
    """The version of this tree. Another one may be installed."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def whole_files() -> dict[Path, str]:
    """Path → text of each file that is generated as a whole."""
    return {
        Path("contracts/asyncapi.json"): asyncapi.text(examples(), version()),
        Path("contracts/catalogue.html"): catalogue.page(examples(), version()),
        Path("docs/reference/cli.md"): commands.page(),
        Path("docs/reference/kit.md"): kit.page(),
        Path("docs/reference/settings.md"): settings.page(),
        Path("docs/reference/topics-and-messages.md"): topics.page(),
    }


def rendered(path: Path) -> str:
    """The text of a file with up-to-date generated sections. Raises `ValueError` when a marker is missing."""
    text = (ROOT / path).read_text()
    for name, make in SECTIONS[path].items():
        start = START.format(name)
        head, found, rest = text.partition(start)
        _, ended, tail = rest.partition(END)
        if not found or not ended:
            raise ValueError(f"{path} lacks {start} … {END}")
        text = f"{head}{start}\n{make()}\n{END}{tail}"
    return text


def write_all() -> None:
    """Write every file and section, and golden records for new types. Existing golden records are never changed."""
    for path in SECTIONS:
        (ROOT / path).write_text(rendered(path))
    for path, text in whole_files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    golden.add_missing_records()
