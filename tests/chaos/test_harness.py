"""Five minutes of `make chaos`: seeded faults under load on SQLite and on PostgreSQL with two of each, judged from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
LONGEST_S = 330
RUNS = [("sqlite", 228), ("postgres", 169)]
"""Databases and seeds whose minute has many kinds of faults."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("store", "seed"), RUNS)
def test_seeded_faults_break_no_promise(store: str, seed: int) -> None:
    # A minute of load each; start, quiet period, verification and erasure take the rest of the five minutes.
    options = ["--store", store, "--seed", str(seed), "--minutes", "1", "--rate", "2", "--quiet", "60"]
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.harness", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )  # fmt: skip
    try:
        out, complained = run.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        run.terminate()  # it stops its pipeline first
        out, complained = run.communicate(timeout=60)
    print(out)
    assert run.returncode == 0, out[-6000:] + complained[-3000:]
