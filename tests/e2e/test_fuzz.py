"""Generated requests to every operation of the gateway, with all checks and phases of Schemathesis (`make fuzz` sends more)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client import Target
from services.ingest.http.openapi import DIALECTS, OWN
from tests.conftest import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(3600)]
EXAMPLES = os.environ.get("STAGELINE_FUZZ_EXAMPLES", "3")
ROOT = Path(__file__).parents[2]
BLOCKS = "/result$"
"""`getJobResult` waits for a result by design; `test_conversion.py` has its cases."""
WORKERS = "2" if sys.version_info >= (3, 12) else "1"
"""Python 3.11's `ast.parse`, which Hypothesis uses, fails at times in two threads at once (CPython issue 106905)."""


async def test_generated_requests_find_no_fault(own_pipeline: Pipeline, tmp_path: Path) -> None:
    own_pipeline.environment |= {"STAGELINE_REQUESTS_PER_MINUTE": "100000000", "STAGELINE_SIGNINS_PER_MINUTE": "100000000"}
    own_pipeline.environment |= {"STAGELINE_SIGNINS_PER_MINUTE_TOTAL": "100000000"}
    own_pipeline.start()
    for name in DIALECTS:
        await fuzz(own_pipeline.target(), "/openapi.json" if name == OWN else f"/openapi/{name}.json", tmp_path)


async def fuzz(target: Target, document: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "tests" / "schemathesis.toml"), "run", f"{target.url}{document}",
        "--checks", "all", "--phases", "coverage,fuzzing,stateful", "--max-examples", EXAMPLES, "--workers", WORKERS, "--request-timeout", "70",
        "--exclude-path-regex", BLOCKS, "--generation-database", "none",
    ]  # fmt: skip
    environment = {
        **os.environ, "STAGELINE_KEY": target.key, "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT), "NO_COLOR": "1",
    }  # fmt: skip
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    # Printed even if the run is stopped before it reports its failures.
    (tmp_path / "schemathesis.txt").write_text(done.stdout + done.stderr)
    print("\n".join(done.stdout.splitlines()[-12:]))
    assert done.returncode == 0, document + done.stdout[-20_000:] + done.stderr[-3000:]
