"""One killable process per document, forked from a warm server. A killed reader is a typed result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.adapters.reader_files import overfull, read_files
from services.stage_worker.adapters.reader_server import START_SIGNING, Ended, ReaderServer
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.core.reader_result import DONE, MessageLines, read_result

Progress = Callable[[int, int | None], None]
LOOK_S = 1.0
"""Seconds between looks at what a reader has written to its folder."""
END_S = 5.0
"""Seconds that a reader has to end by itself after its last message."""
READ_BYTES = 64 << 10
SIGNS = ("pdf.sign", "sign.describe", "sign.digest")
"""Actions of the second fork server, which starts with the first of them."""


class Sandbox:
    """`DocumentReader` over confined processes. `required`: documents are refused while a wall is missing on this machine."""

    def __init__(self, limits: Limits, required: bool = False) -> None:
        self.limits = limits
        self.required = required
        self.server = ReaderServer()
        self.signing = ReaderServer(START_SIGNING)
        self.cpu_s = 0.0
        """CPU seconds of the reader that ended last."""

    async def run_action(
        self, action: str, data: bytes | Sequence[bytes], config: dict[str, Any], timeout_s: float, progress: Progress
    ) -> dict[str, Any]:
        """Run `action` on the document `data`. Raises `DocumentFault`, also for a killed reader. Cancelling it kills the reader."""
        folder = Path(tempfile.mkdtemp(prefix="stageline-"))
        try:
            for number, part in enumerate([data] if isinstance(data, bytes) else data):
                await asyncio.to_thread((folder / (f"input-{number}" if number else "input")).write_bytes, part)
            await self._read(action, folder, config, timeout_s, progress)
            raw, outputs = await asyncio.to_thread(read_files, folder, self.limits.file_bytes)
            return read_result(action, raw) | outputs
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def close(self) -> None:
        """End the fork server and all readers."""
        await self.server.close()
        await self.signing.close()

    async def _read(self, action: str, folder: Path, config: dict[str, Any], timeout_s: float, progress: Progress) -> None:
        """Run one reader to its end. Raises `DocumentFault` unless it said that it is done."""
        server = self.signing if action in SIGNS else self.server
        messages, told = os.pipe()
        os.set_blocking(messages, False)
        try:
            with _request({"action": action, "config": config, "required": self.required}) as request:
                number = await server.start_reader(folder, self.limits, (request, told))
        except BaseException:
            os.close(messages)
            raise
        finally:
            os.close(told)
        done = False
        try:
            async with asyncio.timeout(timeout_s):
                done = await _listen(messages, folder, progress)
        except TimeoutError:
            raise DocumentFault("limit_time", f"The document took longer than {timeout_s:.0f} s and was stopped.") from None
        finally:
            os.close(messages)
            ended = await self._finish(server, number, done)
        if not done:
            raise _died(ended.status)

    async def _finish(self, server: ReaderServer, number: int, done: bool) -> Ended:
        """Wait for the end of a reader; one that was not done, or that does not end, is killed."""
        if done:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    return await self._count(server, number)
        await server.kill(number)
        return await self._count(server, number)

    async def _count(self, server: ReaderServer, number: int) -> Ended:
        ended = await server.ended(number)
        self.cpu_s = ended.cpu_s
        return ended


@contextlib.contextmanager
def _request(asked: dict[str, Any]) -> Iterator[int]:
    """A descriptor of the request as JSON, in memory where the system has such files. A file's passwords reach no disk then."""
    make = getattr(os, "memfd_create", None)
    if make is not None:
        descriptor = make("request", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(json.dumps(asked).encode())
        yield descriptor
    finally:
        os.close(descriptor)


async def _listen(messages: int, folder: Path, progress: Progress) -> bool:
    """Read messages until the reader is done (True) or its end of the pipe closes (False). Raises `DocumentFault`."""
    loop = asyncio.get_running_loop()
    lines = MessageLines()
    readable = asyncio.Event()
    loop.add_reader(messages, readable.set)
    try:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await readable.wait()
            except TimeoutError:
                if await asyncio.to_thread(overfull, folder):
                    raise DocumentFault("limit_disk", "Reading the file wrote more to the disk than allowed.") from None
                continue
            readable.clear()
            try:
                data = os.read(messages, READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                return False
            for message in lines.feed(data, time.monotonic()):
                if message == DONE:
                    return True
                progress(*message)
    finally:
        loop.remove_reader(messages)


def _died(status: int | None) -> DocumentFault:
    if status == -signal.SIGXCPU:
        return DocumentFault("limit_cpu", "Reading the file took more CPU time than allowed.")
    if status == -signal.SIGKILL:
        return DocumentFault("limit_memory", "Reading the file was stopped by the system, most likely for its memory.")
    return DocumentFault("crashed", f"The reader crashed on this file (exit code {status}).")
