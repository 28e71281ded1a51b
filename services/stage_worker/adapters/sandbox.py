"""One killable child process per document, forked from a warm server. A killed child is a typed result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.core.document_fault import DocumentFault

CHILD = "services.stage_worker.adapters.child"
Progress = Callable[[int, int | None], None]


class Sandbox:
    """`DocumentReader` over child processes. The fork server starts with the first document and keeps the parsers loaded."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([CHILD])
        self._start = asyncio.Lock()
        # Without this every child imports the service's main module again, which costs time and memory.
        main = sys.modules["__main__"]
        main.__spec__ = None
        with contextlib.suppress(AttributeError):
            del main.__file__

    async def run_action(
        self, action: str, data: bytes | Sequence[bytes], config: dict[str, Any], timeout_s: float, progress: Progress
    ) -> dict[str, Any]:
        """Run `action` on the document `data`. Raises `DocumentFault`, also for a killed child. Cancelling it kills the child."""
        folder = Path(tempfile.mkdtemp(prefix="stageline-"))
        try:
            for number, part in enumerate([data] if isinstance(data, bytes) else data):
                await asyncio.to_thread((folder / (f"input-{number}" if number else "input")).write_bytes, part)
            await self._child(action, folder, config, timeout_s, progress)
            result = json.loads(await asyncio.to_thread((folder / "result.json").read_bytes))
            if not result.get("fault"):
                result |= await asyncio.to_thread(_written, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
        fault = result.get("fault")
        if fault:
            raise DocumentFault(fault["code"], fault["message"], fault["retriable"])
        return dict(result)

    async def _child(self, action: str, folder: Path, config: dict[str, Any], timeout_s: float, progress: Progress) -> None:
        from services.stage_worker.adapters import child

        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(target=child.main, args=(sender, action, str(folder), config, self.limits), daemon=True)
        async with self._start:
            await asyncio.to_thread(process.start)
        sender.close()
        done = False
        try:
            async with asyncio.timeout(timeout_s):
                done = await _listen(receiver, progress)
        except TimeoutError:
            raise DocumentFault("limit_time", f"The document took longer than {timeout_s:.0f} s and was stopped.") from None
        finally:
            receiver.close()
            if not done:
                _kill(process.pid)
            await asyncio.to_thread(process.join, 5)
        if not done:
            raise _died(process.exitcode)


def _written(folder: Path) -> dict[str, Any]:
    """`output` or `outputs`: the files that the child wrote, as bytes."""
    found: dict[str, Any] = {}
    if (folder / "output").exists():
        found["output"] = (folder / "output").read_bytes()
    several = sorted(folder.glob("output-*"), key=lambda path: int(path.name.partition("-")[2]))
    return found | ({"outputs": [path.read_bytes() for path in several]} if several else {})


async def _listen(receiver: Any, progress: Progress) -> bool:
    """Read messages until the child is done (True) or its end of the pipe closes (False)."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(receiver.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            while receiver.poll():
                message = receiver.recv()
                if message[0] == "done":
                    return True
                progress(message[1], message[2])
    except (EOFError, OSError):
        return False
    finally:
        loop.remove_reader(receiver.fileno())


def _kill(pid: int | None) -> None:
    if pid is None:
        return
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _died(exitcode: int | None) -> DocumentFault:
    if exitcode == -signal.SIGXCPU:
        return DocumentFault("limit_cpu", "Reading the file took more CPU time than allowed.")
    if exitcode == -signal.SIGKILL:
        return DocumentFault("limit_memory", "Reading the file was stopped by the system, most likely for its memory.")
    return DocumentFault("crashed", f"The reader crashed on this file (exit code {exitcode}).")
