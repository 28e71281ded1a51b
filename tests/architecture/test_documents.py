"""Checks the documents: commands parse; targets, links and anchors exist; snippets compile."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from services.job_orchestrator.core.workflow import Workflow
from services.notifier.core.signature import new_secret, sign
from tests.documents import README, ROOT, Block, blocks, calls, name, pages

PAGES = pages()
MAX_README_LINES = 150
COMMAND: Any = typer.main.get_command(app)
TARGETS = frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
_CODE = re.compile(r"^```.*?^```$", re.M | re.S)
_LINK = re.compile(r"(?<!\\)!?\[[^\]]*\]\((?!https?:|mailto:)([^)\s]+)\)")


def shells() -> list[tuple[str, str]]:
    """(page, line) of every line of shell."""
    return [(name(b.page), line) for page in PAGES for b in blocks(page) if b.language == "sh" for line in b.lines]


def parse(arguments: list[str]) -> None:
    """Parse the arguments as the command line does, without running anything. Raises for an unknown command or option."""
    command, rest = COMMAND, list(arguments)
    while hasattr(command, "commands"):
        rest = command.with_default(rest) if hasattr(command, "with_default") else rest
        assert rest and rest[0] in command.commands, f"there is no command {' '.join(arguments)!r}"
        command = command.commands[rest.pop(0)]
    command.make_context("stageline", rest)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", h).lower()).replace(" ", "-") for h in headings}


def test_the_readme_is_read_to_its_end() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize(("page", "line"), [(p, line) for p, line in shells() if calls(line)])
def test_the_command_line_knows_every_command(page: str, line: str) -> None:
    for arguments in calls(line):
        parse(arguments)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_command_in_a_sentence_exists(page: Path) -> None:
    for words in re.findall(r"`stageline ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", _CODE.sub("", page.read_text())):
        first, _, second = words.partition(" ")
        assert first in COMMAND.commands, words
        group = COMMAND.commands[first]
        assert not hasattr(group, "commands") or not second or second in group.commands, words


def test_a_command_that_is_unknown_or_has_a_wrong_option_is_noticed() -> None:
    for line in (
        "stageline fly",
        "stageline jobs --colour red",
        "JOB=$(stageline submit x --wait)",
        "stageline kafka | cat",
        "stageline bulk stop",
    ):
        with pytest.raises((Exception, SystemExit)):
            parse(calls(line)[0])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_exists(page: Path) -> None:
    text = page.read_text()
    lines = "\n".join(line for b in blocks(page) if b.language == "sh" for line in b.lines)
    named = {*re.findall(r"`make ([a-z-]+)", text), *re.findall(r"(?:^|\s)make ([a-z-]+)", lines)}
    assert named <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_entry() -> None:
    docs = ROOT / "docs"
    seen: set[Path] = set()
    todo = [docs / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(_CODE.sub("", page.read_text())))
        targets = [(page.parent / link).resolve() for link in links if link]
        todo += [t for t in targets if t.suffix == ".md" and t.is_relative_to(docs)]
        todo += [inner for t in targets if t.is_dir() and t.is_relative_to(docs) for inner in t.glob("*.md")]
    assert {name(p) for p in docs.rglob("*.md")} <= {name(p) for p in seen}


@pytest.mark.parametrize(("name_of_page", "least"), [("security-model", 30), ("erasure", 10), ("what-happens-when", 20)])
def test_every_promise_names_a_test(name_of_page: str, least: int) -> None:
    page = (ROOT / "docs" / "explanation" / f"{name_of_page}.md").read_text()
    promises = [row for row in re.findall(r"^\| .+ \| (.+) \|$", page, re.M) if "/test_" in row]
    named = {test for row in promises for test in re.findall(r"`([a-z0-9_]+/test_[a-z0-9_]+\.py)`", row)}
    assert len(promises) >= least and all((ROOT / "tests" / test).is_file() for test in named), sorted(named)


def test_nothing_names_this_machine() -> None:
    for path in [*PAGES, ROOT / "docs" / "images" / "demo.svg"]:
        assert not re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text()), name(path)


def snippets(language: str) -> list[Block]:
    """The blocks of a language in all pages."""
    return [b for page in PAGES for b in blocks(page) if b.language == language]


@pytest.mark.parametrize("block", snippets("python"), ids=lambda b: name(b.page))
def test_python_compiles_and_its_imports_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("contracts", "stageline_kit"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module


@pytest.mark.parametrize("block", [b for b in snippets("yaml") if "steps:" in b.text], ids=lambda b: name(b.page))
def test_workflows_are_valid(block: Block) -> None:
    yaml = pytest.importorskip("yaml")
    Workflow.model_validate(yaml.safe_load(block.text))


def test_the_receiver_of_the_webhooks_page_tells_our_signatures_from_others() -> None:
    page = ROOT / "docs" / "how-to" / "webhooks.md"
    [block] = [b for b in blocks(page) if b.language == "python"]
    found: dict[str, Any] = {}
    exec(compile(block.text, str(page), "exec"), found)
    secret, now = new_secret(b"k" * 32), int(found["time"].time())
    headers = {"webhook-id": "evt", "webhook-timestamp": str(now), "webhook-signature": sign(secret, "evt", now, b"{}")}
    assert found["verified"](secret, headers, b"{}")
    assert not found["verified"](secret, headers, b"{ }")
    assert not found["verified"](secret, {**headers, "webhook-timestamp": str(now - 900)}, b"{}")
