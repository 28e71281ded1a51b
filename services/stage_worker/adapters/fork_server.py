"""A small process with the parsers loaded, from which every document's reader is forked. It reads no document and holds no secret.

The worker sends `{"start": number, "folder": path, "limits": [...]}` with two descriptors, or `{"kill": number}`; the answer is
`{"ended": number, "status": exit code, "cpu_s": seconds}`. When the worker's end closes, all readers are killed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from services.stage_worker.adapters import child
from services.stage_worker.adapters.confinement import Limits
from services.stage_worker.adapters.walls import kernel

MESSAGE_BYTES = 8192
LOW, HIGH = 10, 1024
"""Descriptors of a reader lie from `LOW` on; none of this process lies above `HIGH`."""


class ForkServer:
    """Forks readers on demand, and tells the worker how each ended."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.pid = os.getpid()
        self.running: dict[int, int] = {}
        """Process id → the worker's number."""

    def serve(self) -> None:
        """Serve until the worker's end closes."""
        woken, wakes = os.pipe()
        for end in (woken, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        poll = select.poll()
        for descriptor in (self.control.fileno(), woken):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            self._reap()
            if self.control.fileno() in ready and not self._obey():
                break
        for pid in self.running:
            kill_group(pid)

    def _obey(self) -> bool:
        """One message of the worker. False at the end."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 2)
        except OSError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "start" in message:
            self._start(message, descriptors)
        else:
            for pid, number in self.running.items():
                if number == message["kill"]:
                    kill_group(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError:
            self._tell(message["start"], 71, 0.0)
            return
        if pid == 0:
            self._become_reader(message, descriptors)
        self.running[pid] = message["start"]

    def _become_reader(self, message: dict[str, Any], descriptors: list[int]) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            if kernel.machine() is not None:
                kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() != self.pid:
                os._exit(72)
            request, messages = isolate_descriptors(descriptors)
            child.main(request, messages, message["folder"], Limits(*message["limits"]))
        finally:
            os._exit(70)

    def _reap(self) -> None:
        while True:
            try:
                # The process stays a zombie until its group is killed, so that its number cannot be another's.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            kill_group(found.si_pid)
            _, status, usage = os.wait4(found.si_pid, 0)
            number = self.running.pop(found.si_pid, None)
            if number is not None:
                self._tell(number, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)

    def _tell(self, number: int, status: int, cpu_s: float) -> None:
        with contextlib.suppress(OSError):
            self.control.send(json.dumps({"ended": number, "status": status, "cpu_s": round(cpu_s, 4)}).encode())


def isolate_descriptors(kept: list[int]) -> tuple[int, ...]:
    """Close all but `kept`, which get new numbers; standard input and output become /dev/null. Returns the new numbers."""
    import fcntl

    moved = tuple(fcntl.fcntl(descriptor, fcntl.F_DUPFD, LOW) for descriptor in kept)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    free = 3
    for descriptor in sorted(moved):
        os.closerange(free, descriptor)
        free = descriptor + 1
    os.closerange(free, HIGH)
    return moved


def kill_group(pid: int) -> None:
    """Kill a process that is not reaped yet, and all processes of its group."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def main(names: Sequence[str] = child.LATE) -> None:
    """`python -c … PATH CONTROL`: serve on the inherited socket with that number, with these modules loaded."""
    if kernel.machine() is not None:
        kernel.adopt_orphans()
        kernel.hide_memory()
    child.preload(names)
    # What is loaded now is shared by all readers, as long as no collection touches it.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ForkServer(socket.socket(fileno=int(sys.argv[2]))).serve()
