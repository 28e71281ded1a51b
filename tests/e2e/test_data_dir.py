"""A running pipeline leaves nothing that other users of the machine can read."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from cli.client import Client
from tests.conftest import Pipeline
from tests.e2e.test_gateway import ended, session_with

pytestmark = pytest.mark.kafka


async def test_nothing_in_the_data_directory_is_open_to_others(client: Client, pipeline: Pipeline) -> None:
    session = await session_with(client, "letter-offer.docx")
    await ended(client, (await client.call("POST", "/api/job/create", json={"session_id": session}))["job_id"])
    found: dict[str, int] = {}
    for path in [pipeline.data_dir, *pipeline.data_dir.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            found[str(path.relative_to(pipeline.data_dir))] = stat.S_IMODE(path.lstat().st_mode)
    del found["up.log"]  # the test's own
    assert {"ingest.db", "admin.key", "logs/kafka.log", "logs/ingest.log", "run/state.json", "kafka/data"} <= found.keys()
    assert [name for name in found if name.startswith("objects/default/")], "documents are there too"
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    assert found["."] == 0o700 and found["admin.key"] == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_process_keeps_its_files_to_itself(pipeline: Pipeline) -> None:
    pids = pipeline.state["pids"] | {"supervisor": pipeline.state["supervisor"]}
    umasks = {n: re.findall(r"Umask:\s*(\d+)", Path(f"/proc/{pid}/status").read_text()) for n, pid in pids.items()}
    assert len(umasks) >= 7 and set(map(tuple, umasks.values())) == {("0077",)}, umasks


def test_up_says_who_gets_in_without_a_key(pipeline: Pipeline) -> None:
    said = (pipeline.data_dir / "up.log").read_text()
    assert "no key" in said and "STAGELINE_CONVERSION_NEEDS_KEY=1" in said
    assert ("running as root" in said) == (os.geteuid() == 0)
