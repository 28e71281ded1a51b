"""The fork server: what it forks is a process like one that was started from nothing, and its end is a crash like others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from cli.local.forked import Forked, ForkServer
from shared.errors import Stop
from tests.eventually import eventually

# What it makes while it is imported, as a careless library may, is what all forked processes have in common.
LOADED = "import random, uuid_utils\nmade = (uuid_utils.uuid4(), uuid_utils.uuid7(), random.random())\n"
SAYS = """
import json, os, random, sys, uuid_utils
import loaded
print(json.dumps({
    "ids": [str(uuid_utils.uuid4()), str(uuid_utils.uuid7()), random.random()], "loaded": str(loaded.made), "argv": sys.argv[1:],
    "env": dict(os.environ), "session": os.getsid(0) == os.getpid(), "name": __name__, "stdin": sys.stdin.read(),
    "open": sorted(int(n) for n in os.listdir("/proc/self/fd")),
}))
sys.exit(3)
"""
WAITS = "import signal\nprint('here', flush=True)\nsignal.pause()\n"


@pytest.fixture
async def forks(tmp_path: Path) -> AsyncIterator[ForkServer]:
    for name, text in (("loaded", LOADED), ("says", SAYS), ("waits", WAITS)):
        (tmp_path / f"{name}.py").write_text(text)
    server = ForkServer(["loaded"], {**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "forkserver.log")
    await server.start()
    yield server
    await server.stop()


async def fork(server: ForkServer, module: str, log: Path, **environment: str) -> Forked:
    return await server.fork(module, environment, log)


async def here(log: Path) -> None:
    async def said() -> bool:
        return log.exists() and "here" in log.read_text()

    await eventually(said, 20)


async def gone(*pids: int) -> None:
    async def all_gone() -> bool:
        return not any(alive(pid) for pid in pids)

    await eventually(all_gone, 20)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_forked_processes_share_what_was_loaded_and_nothing_else(forks: ForkServer, tmp_path: Path) -> None:
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    made = [await fork(forks, "says", log, ONLY=log.name) for log in logs]
    assert [await process.wait() for process in made] == [3, 3]
    a, b = (json.loads(log.read_text()) for log in logs)
    assert a["loaded"] == b["loaded"]
    assert not set(a["ids"]) & set(b["ids"]), "a random generator that was used before the fork is seeded again"
    for said, log in ((a, logs[0]), (b, logs[1])):
        assert said["env"] == {"ONLY": log.name} and said["session"] and said["name"] == "__main__"
        assert said["argv"] == [] and said["stdin"] == ""
        assert said["open"][:3] == [0, 1, 2] and len(said["open"]) == 4, "nothing but its streams (and the folder that it lists)"


async def test_a_process_is_named_stopped_and_killed(forks: ForkServer, tmp_path: Path) -> None:
    waiting = await fork(forks, "waits", tmp_path / "w.log")
    await here(tmp_path / "w.log")
    assert "-m waits" in " ".join(psutil.Process(waiting.pid).cmdline())
    waiting.terminate()
    assert await waiting.wait() == -signal.SIGTERM == waiting.returncode
    with pytest.raises(ProcessLookupError):
        waiting.kill()
    other = await fork(forks, "waits", tmp_path / "w2.log")
    other.kill()
    assert await other.wait() == -signal.SIGKILL


async def test_a_process_gives_way(forks: ForkServer, tmp_path: Path) -> None:
    polite = [await forks.fork("waits", {}, tmp_path / f"p{n}.log", 6) for n in range(3)]
    plain = await fork(forks, "waits", tmp_path / "w.log")
    for process, log in zip([*polite, plain], ["p0.log", "p1.log", "p2.log", "w.log"], strict=True):
        await here(tmp_path / log)
        expected = 6 if process is not plain else 0
        assert psutil.Process(process.pid).nice() == expected
        group = Path(f"/proc/{process.pid}/autogroup")
        assert not group.exists() or f"nice {expected}" in group.read_text()


async def test_what_a_module_says_as_it_fails_is_in_its_log(forks: ForkServer, tmp_path: Path) -> None:
    assert await (await fork(forks, "no_such_module", tmp_path / "n.log")).wait() == 1
    assert "No module named no_such_module" in (tmp_path / "n.log").read_text()


async def test_its_end_is_the_end_of_all_and_it_starts_again(forks: ForkServer, tmp_path: Path) -> None:
    waiting = [await fork(forks, "waits", tmp_path / f"w{n}.log") for n in range(2)]
    first = forks.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert [await process.wait() for process in waiting] == [-signal.SIGKILL] * 2
    await gone(*(process.pid for process in waiting))
    again = await asyncio.gather(*(fork(forks, "says", tmp_path / f"s{n}.log") for n in range(2)))
    assert [await process.wait() for process in again] == [3, 3]
    assert forks.pid != first and (tmp_path / "s0.log").read_text()


async def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    server = ForkServer(["no_such_module"], dict(os.environ), tmp_path / "forkserver.log")
    with pytest.raises(Stop, match="No module named 'no_such_module'"):
        await server.fork("json.tool", {}, tmp_path / "x.log")
    await server.stop()


async def test_one_that_does_not_answer_is_not_waited_for_and_forks_nothing_later(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    server = ForkServer([], {**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path / "forkserver.log", patience_s=20)
    watched = await fork(server, "waits", tmp_path / "w.log")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    server._patience_s = 0.2
    with pytest.raises(Stop, match=rf"pid {server.pid}\) did not answer within"):
        await fork(server, "waits", tmp_path / "late.log")
    os.kill(server.pid, signal.SIGCONT)
    server._patience_s = 20
    other = await fork(server, "waits", tmp_path / "o.log")
    own = psutil.Process(server.pid)

    async def only_those() -> bool:
        return {p.pid for p in own.children()} == {watched.pid, other.pid}

    await eventually(only_those, 20)
    await server.stop()
    await gone(watched.pid, other.pid)


async def test_nothing_outlives_the_supervisor(forks: ForkServer, tmp_path: Path) -> None:
    program = (
        "import asyncio, os\nfrom pathlib import Path\nfrom cli.local.forked import ForkServer\n"
        "async def main():\n"
        "    server = ForkServer([], dict(os.environ), Path('forkserver.log'))\n"
        "    forked = await server.fork('waits', dict(os.environ), Path('w.log').resolve())\n"
        "    print(server.pid, forked.pid, flush=True)\n"
        "    await forked.wait()\n"
        "asyncio.run(main())\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    assert supervisor.stdout is not None
    pids = [int(pid) for pid in (await asyncio.to_thread(supervisor.stdout.readline)).split()]
    await here(tmp_path / "w.log")
    supervisor.kill()
    await asyncio.to_thread(supervisor.communicate)
    assert len(pids) == 2
    await gone(*pids)
