"""A worker that `stageline new worker` has made, on a running pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client import Client
from tests.command_line import run_command
from tests.conftest import Pipeline
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("pipeline")]
ROOT = Path(__file__).parents[2]


async def test_a_made_worker_serves_its_action(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    folder, document = tmp_path / "made-words", tmp_path / "order.txt"
    document.write_text("one two three")
    made = run_command(["new", "worker", "made-words", "--folder", str(folder)], {**os.environ})
    assert made.returncode == 0, made.stderr
    assert pipeline.command("workflows", "publish", str(folder / "made-words.yaml")).returncode == 0
    environment = {**os.environ, **pipeline.settings("--role", "worker", "--actions", "made_words.work")}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(folder)))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "made_words"], env=environment, stdout=log, stderr=log)
    try:
        job_id = pipeline.command("submit", str(document), "--workflow", "made-words").stdout.strip()

        async def ended() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            return (await client.call("GET", f"/v1/jobs/{job_id}"))["stage"] == "completed"

        await eventually(ended, 60)
        [found] = (await client.call("GET", f"/v1/jobs/{job_id}"))["files"]
        assert found["properties"]["words"] in (3, "3"), found
        made_file = await client.call("GET", f"/v1/files/{found['id']}/outputs/1")
        assert made_file == "one\ntwo\nthree", made_file
    finally:
        process.terminate()
        assert process.wait(40) == 0, (tmp_path / "log").read_text()
