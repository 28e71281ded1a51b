"""Hostile readers: what they try, and that the worker and its neighbours do not notice."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.stage_worker.adapters.clean_python import IMPORT
from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.adapters.reader_files import read_files
from services.stage_worker.adapters.sandbox import Sandbox
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.inspect import missing_walls
from tests.eventually import eventually
from tests.integration import attacks

SECRET = "the-secret-of-this-worker"
START = IMPORT + "from tests.integration.attacks import main; main()"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
async def hostile() -> AsyncIterator[Sandbox]:
    """A sandbox whose readers attack, in a worker with a secret in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STAGELINE_WORD", SECRET)
        sandbox = Sandbox(Limits(cpu_s=20))
        sandbox.server.program = START
    yield sandbox
    await sandbox.close()


async def no_reader() -> bool:
    """Whether no fork server of this process has a reader."""
    servers = [child for child in psutil.Process().children() if "attacks" in " ".join(child.cmdline())]
    return bool(servers) and not any(server.children() for server in servers)


async def attack(sandbox: Sandbox, kind: str, name: str, **config: Any) -> str:
    asked = {"attack": [kind, name], "worker": os.getpid(), **config}
    found = await sandbox.run_action("text.index", b"x", asked, 20, lambda done, total: None)
    return str(found["output"].decode())


async def test_every_attack_is_refused(hostile: Sandbox, tmp_path: Path) -> None:
    missing = missing_walls()
    if missing:
        pytest.skip(f"this kernel lacks {missing}")
    victim = tmp_path / "neighbour" / "input"
    victim.parent.mkdir()
    victim.write_text("a neighbour's document")
    with socket.create_server(("127.0.0.1", 0)) as server:
        facts = {"victim": str(victim), "outside": str(tmp_path / "outside"), "port": server.getsockname()[1]}
        answers = {name: await attack(hostile, "refused", name, **facts) for name in attacks.REFUSED}
    assert {name: answer for name, answer in answers.items() if not answer.startswith("refused")} == {}
    assert victim.read_text() == "a neighbour's document" and not (tmp_path / "outside").exists()


async def test_nothing_of_the_worker_is_inherited(hostile: Sandbox) -> None:
    assert SECRET not in await attack(hostile, "gained", "environment")
    assert await attack(hostile, "gained", "descriptors") == "gained [0, 1, 2, 11]"


@pytest.mark.parametrize("name", sorted(attacks.FRAMES.keys() - {"nothing"}))
async def test_frames_that_are_no_progress_end_the_reader(hostile: Sandbox, name: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        await attack(hostile, "frame", name)
    assert refused.value.code == "crashed"
    assert await eventually(no_reader)


@pytest.mark.parametrize("name", sorted(attacks.RESULTS))
async def test_results_of_a_stranger_are_refused(hostile: Sandbox, name: str) -> None:
    with pytest.raises(DocumentFault) as refused:
        await attack(hostile, "result", name)
    assert refused.value.code == "crashed"


async def test_an_output_is_bounded(hostile: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "limits", Limits(file_bytes=1 << 20))
    with pytest.raises(DocumentFault) as refused:
        await attack(hostile, "size", "", bytes=2 << 20)
    assert refused.value.code in ("crashed", "unreadable")


@pytest.mark.parametrize("kind", ["link", "pipe", "hard link", "folder", "device", "large", "none"])
def test_what_lies_in_the_place_of_a_result_is_looked_at(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("another's")
    place = folder / "result.json"
    made = {
        "link": lambda: place.symlink_to(outside), "pipe": lambda: os.mkfifo(place), "hard link": lambda: place.hardlink_to(outside),
        "folder": place.mkdir, "device": lambda: place.symlink_to("/dev/zero"), "large": lambda: place.write_bytes(b"0" * (2 << 20)),
        "none": lambda: None,
    }  # fmt: skip
    made[kind]()
    with pytest.raises(DocumentFault, match=r"result\.json") as refused:
        read_files(folder, 1 << 20)
    assert refused.value.code == "crashed"


async def test_a_missing_wall_refuses_documents_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox(Limits(), required=True)
    sandbox.server.program = (
        IMPORT + "\nfrom services.stage_worker.adapters import confinement, fork_server\n"
        "def refuse_calls(rights): raise OSError(1, 'no filter here')\n"
        "confinement.refuse_calls = refuse_calls\n"
        "fork_server.main()"
    )
    try:
        with pytest.raises(DocumentFault, match="no filter here") as refused:
            await sandbox.run_action("file.identify", b"%PDF-1.4", {}, 20, lambda done, total: None)
        assert refused.value.code == "sandbox_incomplete" and refused.value.retriable
        sandbox.required = False
        assert await sandbox.run_action("file.identify", b"%PDF-1.4\n", {}, 20, lambda done, total: None)
    finally:
        await sandbox.close()


async def test_readers_end_with_the_worker() -> None:
    """The fork server kills its readers when the worker's end of the socket closes."""
    sandbox = Sandbox(Limits())
    sandbox.server.program = START
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    running = asyncio.create_task(attack(sandbox, "frame", "nothing"))

    async def both() -> list[psutil.Process]:
        found = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
        return found if len(found) == 2 else []

    readers = await eventually(both)
    await sandbox.close()
    await asyncio.to_thread(psutil.wait_procs, readers, 10)
    assert not any(p.is_running() for p in readers)
    with pytest.raises(DocumentFault):
        await running
