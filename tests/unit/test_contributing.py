"""CONTRIBUTING.md as a newcomer reads it: its first change applies and passes, what it names exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_first_change_applies_and_its_test_passes(tmp_path: Path) -> None:
    found = re.search(r"```diff\n(.*?)   ```", TEXT, re.S)
    assert found is not None
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "services", tmp_path / "services", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "unit", tmp_path / "tests" / "unit", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    patch = textwrap.dedent(found[1])
    subprocess.run(["git", "apply", "-"], input=patch, text=True, check=True, cwd=tmp_path, env={**os.environ, "GIT_DIR": "none"})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "tests/unit/test_worker_core.py"]
    done = subprocess.run(
        [*command, "-k", "reminder or tags"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


def test_folders_and_files_that_it_names_exist() -> None:
    named = re.findall(r"`((?:contracts|shared|services|tests|cli|examples|stageline_kit|\.github)/[\w./-]*)`", TEXT)
    assert len(named) > 12
    for name in named:
        assert (ROOT / name).exists(), name


def test_issue_templates_are_forms() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert form["name"] and form["description"], path
            assert {part["type"] for part in form["body"]} <= {"markdown", "textarea", "input", "checkboxes", "dropdown"}
