"""What the README says is run: its examples as programs of their own, its commands as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client import Client
from tests.conftest import Pipeline
from tests.e2e.test_door import ended

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.S)
    assert found is not None
    return found[1]


@pytest.mark.kafka
async def test_the_examples_work_together(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": pipeline.kafka}
    (tmp_path / "producer.py").write_text(example("producer"))
    (tmp_path / "consumer.py").write_text(example("consumer"))
    produced = subprocess.run([sys.executable, "producer.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert produced.returncode == 0, produced.stderr
    job_id = produced.stdout.strip()
    assert (await ended(client, job_id))["stage"] == "completed"
    command = [sys.executable, "consumer.py"]
    consumed = subprocess.run(command, cwd=tmp_path, env={**env, "JOB_ID": job_id}, capture_output=True, text=True, timeout=90)
    assert consumed.returncode == 0, consumed.stderr
    mine = [line for line in consumed.stdout.splitlines() if job_id in line]
    assert [line.split()[0] for line in mine] == [str(n) for n in range(1, 10)]


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
    for path in re.findall(r"\]\(([a-z_/]+README\.md)\)", README):
        assert (ROOT / path).exists(), path
    assert os.access(ROOT / "scripts" / "install-system-packages", os.X_OK)
