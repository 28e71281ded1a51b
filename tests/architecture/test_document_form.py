"""Checks the form of READMEs, decisions, changelog and benchmark results. `test_documents.py` checks the README and docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.results import COMPARISONS, FOLDER, all_runs
from scripts.docs import decisions

ROOT = Path(__file__).parents[2]
SIZES = {"benchmarks/README.md": 60}
"""Most lines of a README. READMEs of packages and services may have forty."""
READMES = [
    "contracts",
    "shared",
    "stageline_kit",
    "cli",
    *(f"services/{p.name}" for p in (ROOT / "services").iterdir() if p.is_dir() and p.name[0] != "_"),
]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("name", [*SIZES, *(f"{folder}/README.md" for folder in READMES)])
def test_a_readme_is_short(name: str) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= SIZES.get(name, 40)


@pytest.mark.parametrize("page", decisions.pages(), ids=lambda page: page.file)
def test_a_decision_has_one_page_with_four_parts(page: decisions.Page) -> None:
    text = (decisions.FOLDER / page.file).read_text()
    assert len(text.splitlines()) <= 25
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.M) == ["Context", "Decision", "Rejected", "Consequence"]
    assert page.file.startswith(page.number)


def test_the_index_of_decisions_names_every_page_once() -> None:
    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (decisions.FOLDER / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in decisions.FOLDER.glob("[0-9]*.md"))
    numbers = [page.number for page in decisions.pages()]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("folder", [*READMES, "benchmarks"])
def test_a_readmes_links_lead_to_files(folder: str) -> None:
    for link in LINK.findall((ROOT / folder / "README.md").read_text()):
        target = link.partition("#")[0]
        assert not target or "://" in target or (ROOT / folder / target).exists(), link


def test_the_changelog_is_by_version_one_line_each() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+)", text, re.M)[:2] == ["Unreleased", "0.3.0"]
    assert re.match(r"# Changelog\n", text)
    for release in re.split(r"^## ", text, flags=re.M)[1:]:
        assert set(re.findall(r"^### (.*)$", release, re.M)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(line.startswith("- ") and line.endswith(".") and len(line) <= 200 for line in entries[1:])


def test_every_result_of_a_benchmark_can_be_read() -> None:
    runs = list(all_runs(FOLDER.glob("*.json")))
    assert {run.benchmark for run in runs} == {"run", "gateway", "search", "peers", "walks", "after-load", "chaos"}
    assert COMPARISONS.validate_json((FOLDER / "comparisons.json").read_bytes())


@pytest.mark.parametrize("folder", [*READMES, "benchmarks"])
def test_a_readme_names_files_that_exist(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    for name in re.findall(r"`([a-z_./]+(?:\.py|\.json|\.md|/))`", text):
        if not name.startswith("/"):
            assert (ROOT / folder / name).exists() or (ROOT / name).exists(), f"{folder}/README.md names {name}"
