"""Programs that a hostile document would run in its reader. Each returns what it gained; `OSError` means that it was refused."""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.stage_worker.adapters import child
from services.stage_worker.adapters.walls.kernel import X86_64, libc, machine, system_call

Attack = Callable[[dict[str, Any]], object]
MESSAGES = 11
"""The descriptor of the reader's messages: the second of those that the fork server keeps."""


def call(number: tuple[int, int], *arguments: Any) -> int:
    """A system call by its numbers on x86-64 and arm64."""
    return system_call(number[0 if machine() == X86_64 else 1], *arguments)


def steal_environment(config: dict[str, Any]) -> str:
    """The environment of this process, and of all processes that can be read."""
    seen = json.dumps(dict(os.environ))
    for pid in ("self", str(os.getppid()), str(config["worker"]), "1"):
        try:
            seen += Path(f"/proc/{pid}/environ").read_bytes().decode("latin-1")
        except OSError:
            continue
    return seen


def open_descriptors(config: dict[str, Any]) -> str:
    """Descriptors beside standard input and output, the messages and the request."""
    found = []
    for number in range(256):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            continue
    return json.dumps(found)


def link_result(config: dict[str, Any]) -> None:
    os.symlink("/etc/passwd", "output")


def write_outside(config: dict[str, Any]) -> int:
    return Path(config["outside"]).write_text("here")


def cut_outside(config: dict[str, Any]) -> None:
    os.truncate(config["victim"], 0)


def trace(pid: int) -> int:
    return call((101, 117), 16, pid, 0, 0)


def read_memory(pid: int) -> int:
    space = ctypes.create_string_buffer(16)
    local = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(space), 16))
    remote = ctypes.create_string_buffer(struct.pack("QQ", 0x400000, 16))
    return call((310, 270), pid, local, 1, remote, 1, 0)


def start_thread(config: dict[str, Any]) -> None:
    try:
        threading.Thread(target=int).start()
    except RuntimeError as error:
        raise OSError(str(error)) from None


def signal_by_file(config: dict[str, Any]) -> None:
    import fcntl

    end, _ = os.pipe()
    fcntl.fcntl(end, fcntl.F_SETOWN, config["worker"])


def lower_limit(config: dict[str, Any]) -> None:
    limit = ctypes.create_string_buffer(struct.pack("QQ", 1, 1))
    call((302, 261), config["worker"], 0, limit, None)


REFUSED: dict[str, Attack] = {
    "read /etc/shadow": lambda c: Path("/etc/shadow").read_bytes(),
    "read /etc/passwd": lambda c: Path("/etc/passwd").read_bytes(),
    "read another task's folder": lambda c: Path(c["victim"]).read_bytes(),
    "list the folder of all tasks": lambda c: os.listdir(Path(c["victim"]).parent),
    "read the worker's memory": lambda c: Path(f"/proc/{c['worker']}/mem").open("rb").close(),
    "read the worker's environment": lambda c: Path(f"/proc/{c['worker']}/environ").read_bytes(),
    "read the fork server's environment": lambda c: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "write outside": write_outside,
    "cut a file outside": cut_outside,
    "cut a file outside by reading": lambda c: os.close(os.open(c["victim"], os.O_RDONLY | os.O_TRUNC)),
    "cut a library by reading": lambda c: os.close(os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)),
    "delete a file outside": lambda c: os.unlink(c["victim"]),
    "open a file outside to everybody": lambda c: os.chmod(c["victim"], 0o777),
    "make a folder": lambda c: os.mkdir("deep"),
    "make a link as result": link_result,
    "make a hard link": lambda c: os.link("input", "output"),
    "make a pipe as result": lambda c: os.mkfifo("output"),
    "connect": lambda c: socket.create_connection(("127.0.0.1", c["port"]), 1),
    "connect by a local socket": lambda c: socket.socket(socket.AF_UNIX).connect("\0stageline"),
    "start a process": lambda c: os.fork(),
    "start a thread": start_thread,
    "start a program": lambda c: os.execv("/bin/true", ["true"]),
    "start a program by subprocess": lambda c: subprocess.run(["/bin/true"], check=True),
    "signal the worker": lambda c: os.kill(c["worker"], signal.SIGTERM),
    "signal the fork server": lambda c: os.kill(os.getppid(), signal.SIGKILL),
    "signal everybody": lambda c: os.kill(-1, signal.SIGKILL),
    "signal by a file's owner": signal_by_file,
    "lower the worker's limits": lower_limit,
    "trace the worker": lambda c: trace(c["worker"]),
    "trace the fork server": lambda c: trace(os.getppid()),
    "read the fork server by process_vm_readv": lambda c: read_memory(os.getppid()),
    "hold the worker by pidfd_open": lambda c: call((434, 434), c["worker"], 0),
    "leave the group": lambda c: os.setpgid(0, 0),
    "leave the session": lambda c: os.setsid(),
    "new namespaces": lambda c: call((272, 97), 0x10000000),
    "mount": lambda c: call((165, 40), None, None, None, 0, None),
    "keys of the kernel": lambda c: call((250, 219), 0, 0, 0, 0, 0),
    "bpf": lambda c: call((321, 280), 0, None, 0),
    "perf_event_open": lambda c: call((298, 241), None, 0, 0, 0, 0),
    "userfaultfd": lambda c: call((323, 282), 0),
    "io_uring": lambda c: call((425, 425), 1, None),
    "kexec": lambda c: call((246, 104), 0, 0, None, 0),
    "memory without a limit": lambda c: call((319, 279), ctypes.create_string_buffer(b"x"), 0),
    "shared memory": lambda c: call((29, 194), 0, 4096, 0o1600),
    "a call newer than the filter": lambda c: call((500, 500)),
    "root's user": lambda c: os.setuid(0),
    "own memory made readable": lambda c: _prctl(4, 1),
    "life without the fork server": lambda c: _prctl(1, 0),
}
"""Name → attack that must raise `OSError`."""

GAINED: dict[str, Attack] = {"environment": steal_environment, "descriptors": open_descriptors}
"""Name → attack that returns text, which the test judges."""


def _prctl(option: int, value: int) -> None:
    if libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "refused")


def _send(data: bytes) -> None:
    while data:
        data = data[os.write(MESSAGES, data) :]


def _flood() -> None:
    while True:
        _send(b"[1,2]\n" * 1000)


def _pickled() -> bytes:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch /tmp/pwned",)

    data = pickle.dumps(Evil())
    return struct.pack("!i", len(data)) + data


FRAMES: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "a pickled object": lambda: _send(_pickled() + b"\n"),
    "a line of 10 MB": lambda: _send(b"1" * (10 << 20)),
    "a flood": _flood,
    "garbage": lambda: _send(os.urandom(200).replace(b"\n", b"") + b"\n"),
    "a number of 1,000 digits": lambda: _send(b"[" + b"9" * 150 + b",1]\n"),
    "a negative count": lambda: _send(b"[-1,2]\n"),
    "an object": lambda: _send(b'{"done": true}\n'),
    "NaN": lambda: _send(b"[NaN,2]\n"),
}
"""Name → what the reader sends instead of its progress."""

RESULTS: dict[str, bytes] = {
    "no JSON": b"\x80\x04\x95", "a list": b"[]", "another's object": b'{"file": {"blob_name": "globex/1"}}',
    "an object name": b'{"text_blob": "globex/1"}', "deep": b'{"properties":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    "huge": b'{"tool":"' + b"x" * (2 << 20) + b'"}', "a number as text": b'{"words": "7"}', "NaN": b'{"words": NaN}',
    "another action's key": b'{"kind": "pdf"}', "a fault without a code": b'{"fault": {"code": "../x", "message": "", "retriable": true}}',
}  # fmt: skip
"""Name → content of `result.json` that is no result of `text.index`."""


def act(action: str, path: Path, config: dict[str, Any], report: Any) -> dict[str, Any]:
    """Run an attack instead of an action: `config["attack"]` names it."""
    kind, name = config["attack"]
    outcome: str
    if kind == "frame":
        FRAMES[name]()
        signal.pause()
    if kind == "result":
        Path("result.json").write_bytes(RESULTS[name])
        _send(b'"done"\n')
        os._exit(0)
    if kind == "size":
        with Path("output").open("wb") as stream:
            stream.truncate(config["bytes"])
        return {"words": 1}
    try:
        gained = (REFUSED | GAINED)[name](config)
        outcome = f"gained {gained}"
    except OSError as error:
        outcome = f"refused {error}"
    Path("output").write_text(outcome)
    return {"words": 1}


def main() -> None:
    """Start the fork server with readers that attack."""
    from services.stage_worker.adapters import fork_server

    child._act = act
    fork_server.main()
