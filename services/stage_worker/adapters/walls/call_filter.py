"""A filter of system calls (seccomp, mode 2) as a small BPF program. A program that this process starts keeps the filter."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from services.stage_worker.adapters.walls import system_calls as calls
from services.stage_worker.adapters.walls.kernel import ARM64, X86_64, machine, system_call

_LOAD, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06, 0x54
_CUT_MASK, _CUT_READING = 0x203, 0x200
"""Access mode and `O_TRUNC` of open(2); the second is `O_RDONLY | O_TRUNC`, which Landlock takes for reading before version 3."""
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _FIRST, _SECOND, _THIRD = 0, 4, 16, 24, 32
"""Offsets in `struct seccomp_data`: number, architecture, low halves of the first three arguments."""
_AUDIT_ARCH = {X86_64: 0xC000003E, ARM64: 0xC00000B7}
_CLONE_THREAD, _CLONE_NAMESPACES = 0x00010000, 0x7E020000
_FCNTL_SIGNALS = (8, 10, 15)
"""`F_SETOWN`, `F_SETSIG`, `F_SETOWN_EX`: they can make the kernel send a signal to another process."""
_IOCTL_USED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""`TCGETS`, `TIOCGWINSZ`, `FIONREAD`, `FIONBIO`, `FIONCLEX`, `FIOCLEX`: what Python and C libraries ask of an open file."""
_PRCTL_REFUSED = (4, 35, 36, 53, 0x59616D61)
"""`PR_SET_DUMPABLE`, `PR_SET_MM`, `PR_SET_CHILD_SUBREAPER`, `PR_SET_SPECULATION_CTRL`, `PR_SET_PTRACER`."""
_SET_PDEATHSIG = 1
_AF_UNIX = 1
_PID = b"\xfe\xca\xfe\xca"
"""No number of a process (Linux numbers them up to 2**22), no value of an argument that is judged."""
_SET_MODE_FILTER = 1
Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a confined process may do beside reading its document: new processes, threads, other programs."""

    fork: bool = False
    threads: bool = False
    execute: bool = False


def refuse_calls(rights: Rights) -> None:
    """Install the filter for this process and all that it starts. Needs `no_new_privs`.

    Raises `OSError` where the kernel or the container has no such filter.
    """
    architecture = machine()
    if architecture is None:
        raise OSError(errno.ENOSYS, "there is no filter for this architecture")
    program = template(architecture, rights).replace(_PID, struct.pack("=I", os.getpid()))
    steps = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(steps)))
    column = 0 if architecture == X86_64 else 1
    system_call(calls.SECCOMP[column], _SET_MODE_FILTER, 0, header)


@lru_cache(maxsize=8)
def template(architecture: str, rights: Rights) -> bytes:
    """The program in the kernel's form, with a placeholder for the process's number. Made once, before processes are forked."""
    steps = build(architecture, struct.unpack("=I", _PID)[0], rights)
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def build(architecture: str, pid: int, rights: Rights) -> list[Instruction]:
    """The program for one architecture. `pid` is the one process that may be signalled beside the own group."""
    column = 0 if architecture == X86_64 else 1
    steps: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT_ARCH[architecture]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, calls.X32_BIT), (_RETURN, 0, 0, _KILL),
        (_GREATER, 0, 1, calls.LAST_KNOWN), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]  # fmt: skip
    # Their flags lie in memory, where no filter can judge them. Callers fall back to clone and openat.
    for number in (calls.CLONE3[column], calls.OPENAT2[column]):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    refused = (
        calls.REFUSED + ("" if rights.fork else f"{calls.FORK}|{calls.FILTER}\n") + ("" if rights.execute else calls.EXECUTE)
    )
    for number in calls.numbers(refused, column):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    # An event loop wakes itself by such a pair, which reaches nobody else.
    steps += _when(calls.SOCKETPAIR[column], _FIRST, allowed=(_AF_UNIX,))
    steps += _when(calls.KILL[column], _FIRST, allowed=(0, pid))
    steps += _when(calls.TGKILL[column], _FIRST, allowed=(pid,))
    steps += _when(calls.PRLIMIT[column], _FIRST, allowed=(0, pid))
    steps += _when(calls.AFFINITY[column], _FIRST, allowed=(0, pid))
    steps += _when(calls.IOCTL[column], _SECOND, allowed=_IOCTL_USED)
    steps += _when(calls.FCNTL[column], _SECOND, refused=_FCNTL_SIGNALS)
    steps += _when(calls.PRCTL[column], _FIRST, refused=(*_PRCTL_REFUSED, *(() if rights.fork else (_SET_PDEATHSIG,))))
    steps += _open(calls.OPENAT[column], _THIRD)
    for number in calls.numbers(calls.OPEN, column):
        steps += _open(number, _SECOND)
    return [*steps, *_clone(calls.CLONE[column], rights), (_RETURN, 0, 0, _ALLOW)]


def _when(number: int, argument: int, allowed: Iterable[int] = (), refused: Iterable[int] = ()) -> list[Instruction]:
    """Judge one call by an argument: only the `allowed` values pass, or all but the `refused`. Ends with the call's verdict."""
    good, bad = list(allowed), list(refused)
    body: list[Instruction] = [(_LOAD, 0, 0, argument)]
    for value in good or bad:
        body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW if good else _ERRNO | errno.EPERM)]
    body.append((_RETURN, 0, 0, _ERRNO | errno.EPERM if good else _ALLOW))
    return [(_EQUAL, 0, len(body), number), *body]


def _open(number: int, flags: int) -> list[Instruction]:
    """No file that is opened for reading is cut. `flags`: the argument with the flags."""
    body: list[Instruction] = [
        (_LOAD, 0, 0, flags), (_AND, 0, 0, _CUT_MASK), (_EQUAL, 0, 1, _CUT_READING), (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    return [(_EQUAL, 0, len(body), number), *body]


def _clone(number: int, rights: Rights) -> list[Instruction]:
    """No new namespaces. Processes and threads by `rights`."""
    refuse: Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    body: list[Instruction] = [(_LOAD, 0, 0, _FIRST), (_ANY_BIT, 0, 1, _CLONE_NAMESPACES), refuse]
    if rights.threads and not rights.fork:
        body += [(_ANY_BIT, 1, 0, _CLONE_THREAD), refuse]
    body.append((_RETURN, 0, 0, _ALLOW) if rights.threads or rights.fork else refuse)
    return [(_EQUAL, 0, len(body), number), *body]
