"""Client of the fork server (`cli.local.forkserver`) in the supervisor: starts it, requests forks, tracks exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from cli.local.kernel import end_with_parent
from cli.local.plan import FOR_OTHERS
from shared.errors import Stop

FORKS = sys.platform == "linux"
"""On other systems (macOS) some libraries fail in a forked process; there each service is started as a new process."""


class Forked:
    """A forked process, with the part of `asyncio.subprocess.Process` that the supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def ended(self, code: int) -> None:
        """Record the exit code; a negative code is the signal that ended the process."""
        self.returncode = code
        self._ended.set()

    async def wait(self) -> int:
        """Wait for the end of the process; returns its exit code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal. Raises `ProcessLookupError` when the process has ended."""
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM. Raises `ProcessLookupError` when the process has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL. Raises `ProcessLookupError` when the process has ended."""
        self.send_signal(signal.SIGKILL)


PATIENCE_S = 60.0


def last_words(log: Path) -> str:
    """The last line of a process's log, at most 400 characters, for an error message."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1][:400] if lines else "its log is empty"


class ForkServer:
    """A fork server with `modules` preloaded. `log` receives its output. It is restarted when it has died."""

    def __init__(self, modules: list[str], environment: dict[str, str], log: Path, patience_s: float = PATIENCE_S) -> None:
        self._modules = modules
        self._environment = environment
        self._log = log
        self._patience_s = patience_s
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: list[asyncio.Future[Forked]] = []
        self._forked: dict[int, Forked] = {}
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Its process id, or None before the start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process. It imports its modules in the background."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "cli.local.forkserver", str(theirs.fileno()), *self._modules]
        with theirs:
            stream = await asyncio.to_thread(self._log.open, "ab")
            with stream:
                self._process = await asyncio.create_subprocess_exec(
                    *command, env=self._environment, stdout=stream, stderr=stream, stdin=asyncio.subprocess.DEVNULL,
                    preexec_fn=partial(end_with_parent, os.getpid()), start_new_session=True, pass_fds=[theirs.fileno()],
                    umask=FOR_OTHERS,
                )  # fmt: skip
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader, self._writer))

    async def fork(self, module: str, environment: dict[str, str], log: Path, niceness: int = 0) -> Forked:
        """Fork a process that runs `python -m module` with the given niceness (0 to 19).

        Raises `Stop` when the fork server dies before it answers, or does not answer within `patience_s`.
        """
        async with self._starting:
            if self._reading is None or self._reading.done():
                await self.start()
        assert self._writer is not None
        asked: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        request = {"module": module, "env": environment, "log": str(log), "nice": niceness}
        self._writer.write(json.dumps(request).encode() + b"\n")
        try:
            return await asyncio.wait_for(asked, self._patience_s)
        except TimeoutError:
            reason = f"the fork server (pid {self.pid}) did not answer within {self._patience_s:.0f} s: {last_words(self._log)}"
            raise Stop("start_failed", reason) from None

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self._take(json.loads(line))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        # Without the server no exit code can be reported: kill its processes, so that the supervisor restarts them.
        for forked in list(self._forked.values()):
            with contextlib.suppress(ProcessLookupError):
                forked.kill()
            forked.ended(-signal.SIGKILL)
        self._forked.clear()
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(Stop("start_failed", f"the fork server ended: {last_words(self._log)}"))
        self._asked.clear()

    def _take(self, answer: dict[str, int]) -> None:
        if "code" in answer:
            self._forked.pop(answer["pid"]).ended(answer["code"])
            return
        forked = self._forked[answer["pid"]] = Forked(answer["pid"])
        asked = self._asked.pop(0)
        if asked.done():
            # The caller has timed out, so nobody would supervise this process. It may have ended already.
            with contextlib.suppress(ProcessLookupError):
                forked.kill()
        else:
            asked.set_result(forked)

    async def stop(self) -> None:
        """Stop the server and kill the forked processes that still run."""
        for forked in self._forked.values():
            with contextlib.suppress(ProcessLookupError):
                forked.kill()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()  # it may still be importing
            await self._process.wait()
        if self._reading is not None:
            await self._reading
