"""`python -m cli.local.forkserver FD`: imports the services' modules once and forks every service from that process.

Imports take most of the time and CPU of a start and of a restart. The single import runs while the broker starts, and the
loaded pages are shared by all services. As in Python's `multiprocessing.forkserver`, nothing is opened before a fork: no
thread, no connection, no event loop.

The protocol is lines of JSON on the socket FD. Request: `{"module", "env", "log", "nice"}`. Answers: `{"pid"}` for each
request, in order, and `{"pid", "code"}` when a process has ended (a negative code is a signal). End of file means that the
supervisor has gone.
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
    """Import `modules` and freeze their objects (`gc.freeze`), so that garbage collection does not copy shared pages."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()


def serve(requests: socket.socket) -> Request | None:
    """Fork once per request and report exit codes.

    Returns None in the server when the supervisor has gone, and the request in each forked process.
    """
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    rest = b""
    while True:
        ready, _, _ = select.select([requests, wake], [], [])
        if wake in ready:
            wake.recv(4096)
            _report_ended(requests)
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
            _send(requests, {"pid": pid})


def _report_ended(requests: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(requests, {"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _send(requests: socket.socket, message: dict[str, object]) -> None:
    requests.sendall(json.dumps(message).encode() + b"\n")


def become(request: Request, parent: int) -> None:
    """In the forked process: set up session, environment and output, then run the module's `__main__`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    give_way(request.nice)
    end_with_parent(parent)
    out = os.open(request.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    # Must come before os.environ is cleared: it uses the memory of the original environment.
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
