"""One version: `pyproject.toml` states it, and every file that repeats it agrees."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import stageline_kit
from stageline_kit.worker import CLIENT

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
    assert json.loads((ROOT / "contracts" / "asyncapi.json").read_text())["info"]["version"] == VERSION


def test_the_image_is_labelled_with_the_version() -> None:
    assert re.findall(r"^ARG VERSION=(.*)$", (ROOT / "Dockerfile").read_text(), re.M) == [VERSION]


def test_services_state_no_version_of_their_own() -> None:
    for package in ("services", "shared", "cli"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"""version["']?[=:] *["']\d+\.\d+\.\d""", path.read_text()), path
