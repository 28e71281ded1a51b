"""What the processes of a worker write: lines of its log while it lives, and nothing once it is killed."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from services.stage_worker.adapters.clean_python import IMPORT
from services.stage_worker.adapters.reader_server import START, ReaderServer
from tests.eventually import eventually

WRITES = "import os; os.write(2, b'words of a library\\n'); "
FAILS_AT_THE_END = (
    IMPORT + "import socket; socket.socket(fileno=int(sys.argv[2])).recv(1); raise SystemError('the worker has gone')"
)
WORKER = """
import signal
from services.stage_worker.adapters import reader_server
server = reader_server.ReaderServer({program!r})
server._ensure()
print(server._process.pid, flush=True)
signal.pause()
"""


async def test_what_the_server_writes_is_a_line_of_the_workers_log(caplog: pytest.LogCaptureFixture) -> None:
    server = ReaderServer(START.replace(IMPORT, IMPORT + WRITES))
    with caplog.at_level(logging.ERROR):
        await asyncio.to_thread(server._ensure)

        async def logged() -> bool:
            return "words of a library" in [getattr(record, "line", "") for record in caplog.records]

        try:
            await eventually(logged)
        finally:
            await server.close()


async def test_a_server_that_fails_as_its_worker_is_killed_writes_nothing() -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WORKER.format(program=FAILS_AT_THE_END),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert worker.stdout is not None and worker.stderr is not None
    assert int(await asyncio.wait_for(worker.stdout.readline(), 30)) > 0
    worker.kill()
    # At its end, no process has this standard error any more.
    assert await asyncio.wait_for(worker.stderr.read(), 30) == b""
    await worker.wait()
