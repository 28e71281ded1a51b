"""Unfinished jobs against a new version of their workflow."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import yaml

from cli.client import Client
from tests.conftest import Pipeline
from tests.e2e.test_control import make, until_why

pytestmark = pytest.mark.kafka


async def test_a_new_version_is_checked_against_the_running_jobs(client: Client, pipeline: Pipeline, tmp_path: Path) -> None:
    name = f"letters-{uuid.uuid4().hex[:8]}"
    steps = [
        {"name": "one", "action": "noop", "scope": "job"},
        {"name": "ask", "wait": {"kind": "approval"}, "scope": "job", "stage": "in_revision"},
    ]
    first = {"name": name, "version": 1, "steps": steps}
    path = tmp_path / "w.yaml"
    path.write_text(yaml.safe_dump(first))
    assert pipeline.command("workflows", "publish", str(path)).returncode == 0
    waits = await make(client, name)
    await until_why(client, waits, "waiting_for_approval")
    same = {**first, "version": 2, "steps": [*steps, {"name": "more", "action": "noop", "scope": "job"}]}
    path.write_text(yaml.safe_dump(same))
    found = pipeline.command("workflows", "check-running", str(path))
    assert found.returncode == 0 and "1 unfinished jobs, 0 would be affected" in found.stdout, found.stdout + found.stderr
    other = {**first, "version": 2, "steps": [steps[0]]}
    path.write_text(yaml.safe_dump(other))
    found = pipeline.command("workflows", "check-running", str(path))
    assert found.returncode == 1 and f"{waits} ({name}@1): its stage would be completed" in found.stdout, found.stdout
    renamed = {**first, "version": 2, "steps": [{**steps[0], "name": "uno"}, steps[1]]}
    path.write_text(yaml.safe_dump(renamed))
    found = pipeline.command("workflows", "check-running", str(path))
    assert found.returncode == 1 and "would be at uno, not at ask" in found.stdout, found.stdout
    await client.call("POST", f"/v1/jobs/{waits}/cancel")
