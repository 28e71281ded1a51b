"""`python -m cli.local.forkserver FD`: imports what the services need once, and forks each of them from there.

Five processes that import the same modules one by one take most of the time and CPU of a start, and of a service's way back after a crash.
The one import runs beside the broker's start; what it loaded is shared by all of them until it is written to. As in Python's own
`multiprocessing.forkserver`, nothing is opened before the fork: no thread, no connection, no event loop.

Requests and answers are lines of JSON on the socket FD. In: `{"module", "env", "log", "nice"}`. Out: `{"pid"}` for each request, in order,
and `{"pid", "code"}` when such a process has ended (negative: the signal that ended it). End of file: the supervisor is gone.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from dataclasses import dataclass

import setproctitle

from cli.local.kernel import end_with_parent, give_way


@dataclass(frozen=True)
class Request:
    """One process to fork."""

    module: str
    env: dict[str, str]
    log: str
    nice: int = 0
    """Niceness, 0 to 19."""


def preload(modules: list[str]) -> None:
    """Import `modules` and keep what they made out of the garbage collector's way, so that its pages stay shared (`gc.freeze`)."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()


def serve(requests: socket.socket) -> Request | None:
    """Fork for each request and tell who has ended. Returns in the supervisor's process with None, in a forked one with its request."""
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    rest = b""
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            wake.recv(4096)
            _tell_ended(requests)
        if requests not in ready:
            continue
        read = requests.recv(1 << 16)
        if not read:
            return None
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            request = Request(**json.loads(line))
            pid = os.fork()
            if pid == 0:
                for sock in (requests, wake, woken):
                    sock.close()
                return request
            _tell(requests, {"pid": pid})


def _tell_ended(requests: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(requests, {"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(requests: socket.socket, message: dict[str, object]) -> None:
    requests.sendall(json.dumps(message).encode() + b"\n")


def become(request: Request, parent: int) -> None:
    """In the forked process: a session, an environment and an output of its own, then the service's `__main__`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    give_way(request.nice)
    end_with_parent(parent)
    out = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    # First: it looks for the place of the title where the environment was.
    setproctitle.setproctitle(f"{sys.executable} -m {request.module}")
    os.environ.clear()
    os.environ.update(request.env)
    sys.argv = [request.module]
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Entry point: the file descriptor of the socket, then the modules to preload."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    preload(sys.argv[2:])
    own = os.getpid()
    request = serve(requests)
    if request is not None:
        become(request, own)


if __name__ == "__main__":
    main()
