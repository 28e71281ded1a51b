"""The worker's end of the fork server: starts it with a clean environment, asks for readers, and learns how each ended."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services.stage_worker.adapters.clean_python import IMPORT, clean_command, clean_environment
from services.stage_worker.adapters.confinement import Limits

log = logging.getLogger(__name__)
MESSAGE_BYTES = 8192
LINE_BYTES = 2000
"""Longer lines of the server are logged in parts."""
START = IMPORT + "from services.stage_worker.adapters.fork_server import main; main()"
START_SIGNING = IMPORT + "from services.stage_worker.adapters.fork_server import main, child; main(child.LATE_FOR_SIGNATURES)"
_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


@dataclass(frozen=True, slots=True)
class Ended:
    """Exit code of a reader (negative: a signal), or None when the fork server itself ended; CPU seconds that the reader used."""

    status: int | None
    cpu_s: float = 0.0


class ReaderServer:
    """Readers by number. The server starts with the first of them, and again if it has ended."""

    def __init__(self, program: str = START) -> None:
        self.program = program
        """What the server's Python runs."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: socket.socket | None = None
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._number = 0

    async def start_reader(self, folder: Path, limits: Limits, descriptors: Sequence[int]) -> int:
        """Start a reader in `folder` with two descriptors: its request, and its messages. Returns its number."""
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._ensure)
        self._listen(loop)
        self._number += 1
        number = self._number
        self._waiting[number] = loop.create_future()
        bounds = [limits.memory_bytes, limits.file_bytes, limits.cpu_s]
        await asyncio.to_thread(self._send, {"start": number, "folder": str(folder), "limits": bounds}, descriptors)
        return number

    async def kill(self, number: int) -> None:
        """Kill a reader and all that it started."""
        if number in self._waiting and not self._waiting[number].done():
            await asyncio.to_thread(self._send, {"kill": number}, ())

    async def ended(self, number: int) -> Ended:
        """Wait until the reader has ended."""
        try:
            return await asyncio.shield(self._waiting[number])
        finally:
            if self._waiting[number].done():
                del self._waiting[number]

    async def close(self) -> None:
        """End the server and with it all readers."""
        if self._control is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._control.fileno())
            self._end_all()
        await asyncio.to_thread(self._close)

    def _ensure(self) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None and self._control is not None:
                return
            own, theirs = socket.socketpair(socket.AF_UNIX, _KIND)
            with theirs:
                command = clean_command(self.program, str(theirs.fileno()))
                self._process = subprocess.Popen(
                    command,
                    env=clean_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(theirs.fileno(),),
                )
            # Not the worker's own standard error: what the server writes there is no JSON, and may come after the worker's end.
            threading.Thread(target=_log_lines, args=(self._process.stderr,), name="reader server", daemon=True).start()
            self._control = own

    def _close(self) -> None:
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._process = self._control = None

    def _send(self, message: dict[str, object], descriptors: Sequence[int]) -> None:
        try:
            assert self._control is not None
            socket.send_fds(self._control, [json.dumps(message).encode()], list(descriptors))
        except OSError:
            # The server has ended, which the reading end of the socket tells to all who wait.
            return

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop and self._listening is self._control:
            return
        if self._loop is not loop:
            self._waiting = {}
        self._loop, self._listening = loop, self._control
        assert self._control is not None
        loop.add_reader(self._control.fileno(), self._on_message, loop, self._control)

    def _on_message(self, loop: asyncio.AbstractEventLoop, control: socket.socket) -> None:
        try:
            data = control.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(control.fileno())
            self._end_all()
            control.close()
            if self._control is control:
                self._control = self._listening = None
            return
        message = json.loads(data)
        waiting_one = self._waiting.get(message["ended"])
        if waiting_one is not None and not waiting_one.done():
            waiting_one.set_result(Ended(message["status"], message["cpu_s"]))

    def _end_all(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(Ended(None))


def _log_lines(stream: IO[bytes]) -> None:
    """Log what the server writes, until it ends."""
    with stream:
        while line := stream.readline(LINE_BYTES):
            log.error("the reader server wrote to its standard error", extra={"line": line.decode("utf-8", "replace").rstrip()})
