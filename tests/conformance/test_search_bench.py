"""`python -m benchmarks.search` fills and queries both kinds of store, in a process that has loaded nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[2]
QUESTIONS = 15


async def test_it_runs_on_both_stores(postgres_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE search_bench")
    await connection.close()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BENCH_SEARCH_JOBS": "500",
        "BENCH_POSTGRES_URL": postgres_url.rpartition("/")[0] + "/search_bench",
    }
    command = [sys.executable, "-m", "benchmarks.search", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    for store in ("sqlite", "postgresql"):
        assert f"{store}: holds 500 jobs" in done.stdout and f"{store}: p95 of all" in done.stdout
    asked = [line for line in done.stdout.splitlines() if line.count(".") >= 4]
    assert len(asked) == QUESTIONS, done.stdout
