"""What the README says is run: its examples as programs of their own, its commands as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Pipeline

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.S)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", ["producer", "consumer", "worker"])
def test_the_examples_are_those_that_test_outside_project_runs(name: str) -> None:
    assert example(name) == (ROOT / "examples" / f"{name}.py").read_text()


@pytest.mark.kafka
@pytest.mark.parametrize("line", re.findall(r"^\.venv/bin/stageline (?!up|down|doctor)(.*?)(?:\s+#.*)?$", README, re.M))
def test_the_commands_of_the_readme_run(pipeline: Pipeline, line: str) -> None:
    words = [w.strip("'") for w in line.split()]
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--data-dir", str(pipeline.data_dir)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_every_folder_and_script_that_the_readme_names_exists() -> None:
    for path in re.findall(r"\]\(([a-zA-Z_/]+\.md)\)", README):
        assert (ROOT / path).exists(), path
    assert os.access(ROOT / "scripts" / "install-system-packages", os.X_OK)
