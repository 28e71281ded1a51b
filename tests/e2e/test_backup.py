"""Backup and restore by the commands of the guide: `verify` finds nothing, and a job that waited at the backup goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cli.client import Client, CliError
from tests.conftest import Pipeline
from tests.documents import ROOT, blocks
from tests.e2e.test_control import make, until_why, verb
from tests.e2e.test_gateway import ended
from tests.e2e.test_local_mode import detach, submitted

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]
GUIDE = ROOT / "docs" / "how-to" / "upgrade-and-backup.md"


def follow(where: Pipeline, words: str) -> None:
    """Run the commands of the guide's block that has `words`, in the folder above the pipeline's."""
    [block] = [b for b in blocks(GUIDE) if b.language == "sh" and words in b.text]
    for line in block.text.strip().splitlines():
        if line == "stageline up --detach":
            detach(where)
        elif line.startswith("stageline "):
            done = where.command(*line.split()[1:])
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        else:
            subprocess.run(line, shell=True, check=True, cwd=where.data_dir.parent)


async def test_a_restored_backup_is_whole(tmp_path: Path) -> None:
    where = Pipeline(tmp_path / ".stageline")
    detach(where)
    try:
        published = where.command("workflows", "publish", str(ROOT / "tests/workflows/test-approval.yaml"))
        assert published.returncode == 0, published.stderr
        before = json.loads(submitted(where, "--json").stdout)
        async with Client(where.target()) as client:
            waits = await make(client, "test-approval")
            await until_why(client, waits, "waiting_for_approval")
        follow(where, "tar --create")
        later = json.loads(submitted(where, "--json").stdout)
        follow(where, "tar --extract")
        async with Client(where.target()) as client:
            after = await client.call("GET", f"/v1/jobs/{before['id']}")
            assert after["stage"] == "completed" and after["files"] == before["files"]
            with pytest.raises(CliError, match="does not exist"):
                await client.call("GET", f"/v1/jobs/{later['id']}")
            await verb(client, waits, "poke", step="approve")
            assert (await ended(client, waits))["stage"] == "completed"
            await ended(client, await make(client, "noop-five"))
        found = where.command("verify", "--json")
        assert found.returncode == 0 and json.loads(found.stdout)["differences"] == [], found.stdout
    finally:
        where.command("down")
