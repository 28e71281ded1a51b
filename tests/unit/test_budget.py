"""A tier over its budget fails. A slow machine gets more time, up to a limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.budget import MAX_FACTOR, REFERENCE_S, factor

ROOT = Path(__file__).parents[2]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_one.py").write_text("def test_one(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.budget", "--rootdir", str(folder), *options, str(folder)]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)


def test_a_run_within_its_budget_passes_and_prints_both(tmp_path: Path) -> None:
    done = run(tmp_path, "--budget-s", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert " of a budget of 100 s, " in last and "times slower than the reference" in last


def test_a_run_over_its_budget_fails_though_all_tests_pass(tmp_path: Path) -> None:
    """With workers, and with what came before it: it began long ago."""
    done = run(tmp_path, "-p", "xdist", "-n", "1", "--budget-s", "100", "--budget-from", str(time.time() - 1000))
    assert done.returncode == 1 and "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("OVER BUDGET: ")


@pytest.mark.parametrize(
    ("times", "expected"), [([0.5, 0.5], 1.0), ([1.0, 1.0], 1.0), ([1.0, 2.0], 1.5), ([2.0, 3.0], 2.5), ([9.0, 9.0], MAX_FACTOR)]
)
def test_the_budget_grows_with_the_machine_s_slowness_within_limits(times: list[float], expected: float) -> None:
    assert factor([t * REFERENCE_S for t in times]) == pytest.approx(expected)
