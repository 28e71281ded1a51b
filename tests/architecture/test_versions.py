"""One version: `pyproject.toml` states it, and every file that repeats it agrees."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import stageline_kit
from shared.version import USER_AGENT
from stageline_kit.version import CLIENT
from tests.architecture.sources import product

ROOT = Path(__file__).parents[2]


def project(folder: str) -> dict[str, Any]:
    """The `[project]` table of a `pyproject.toml`."""
    return dict(tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"])


VERSION = project("")["version"]


@pytest.mark.parametrize("folder", ["contracts", "stageline_kit"])
def test_packages_that_install_alone_have_the_version_of_all(folder: str) -> None:
    assert project(folder)["version"] == VERSION
    asked = re.findall(r"stageline-(?:contracts|kit)==([^\"']+)", (ROOT / folder / "pyproject.toml").read_text())
    assert asked == [VERSION]


def test_programs_and_documents_have_the_version() -> None:
    assert stageline_kit.__version__ == VERSION
    assert f"stageline-kit/{VERSION}" == CLIENT
    assert f"Stageline/{VERSION}" == USER_AGENT
    assert json.loads((ROOT / "contracts" / "asyncapi.json").read_text())["info"]["version"] == VERSION


def test_the_image_is_labelled_with_the_version() -> None:
    assert re.findall(r"^ARG VERSION=(.*)$", (ROOT / "Dockerfile").read_text(), re.M) == [VERSION]


STATED = re.compile(r"""version(?:__)?["']? ?[=:] ?["']\d+\.\d+\.\d""")
NAMED = re.compile(r"(?i)^stageline[a-z_-]*[/ =]+v?\d")


def states_version(path: Path, tree: ast.Module) -> bool:
    """A version is written out, or a text names a program of ours with a number."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return bool(STATED.search(path.read_text())) or any(map(NAMED.match, texts))


def test_no_module_states_a_version_of_its_own() -> None:
    assert [path for path, tree in product().items() if states_version(path, tree)] == []


@pytest.mark.parametrize(
    "code",
    ['made = {"user-agent": "Stageline/0.1"}', 'CLIENT = "stageline-kit/0.3.0"', '__version__ = "0.3.0"', 'app(version="0.3.0")'],
)
def test_the_rule_sees_each_form(code: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(code)
    assert states_version(path, ast.parse(code))
