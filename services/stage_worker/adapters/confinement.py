"""Limits of one document, and how a process is held to them."""

from __future__ import annotations

import ctypes
import resource
from dataclasses import dataclass

_NEWUSER, _NEWNET = 0x10000000, 0x40000000
"""`CLONE_NEWUSER` and `CLONE_NEWNET` of unshare(2)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Address space and largest file in bytes, CPU in seconds. The wall clock is limited by the task's own `timeout_s`."""

    memory_bytes: int = 2 << 30
    file_bytes: int = 512 << 20
    cpu_s: int = 600


def confine_process(limits: Limits) -> bool:
    """Set the limits of this process for good, and cut it off from the network. Returns whether the network is cut."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_NEWNET, _NEWUSER | _NEWNET))
