"""Calls of Linux that Python's library lacks, and this machine's architecture."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from functools import lru_cache

X86_64, ARM64 = "x86_64", "aarch64"
_CAPABILITY_VERSION_3 = 0x20080522
_CAPSET = {X86_64: 126, ARM64: 91}
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_LAST_CAPABILITY = 63


@lru_cache(maxsize=1)
def machine() -> str | None:
    """`x86_64` or `aarch64` for a 64-bit process on Linux with one of them; otherwise None."""
    name = platform.machine() if sys.platform == "linux" and struct.calcsize("P") == 8 else ""
    return name if name in (X86_64, ARM64) else None


@lru_cache(maxsize=1)
def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make one system call. Returns its result; raises `OSError`."""
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = libc().syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, *arguments: int) -> None:
    """prctl(2) with whole numbers. Raises `OSError`."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    if libc().prctl(ctypes.c_int(option), *(ctypes.c_ulong(a) for a in padded)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def die_with_parent(signal_number: int) -> None:
    """Get this signal when the parent's thread that forked this process ends. Raises `OSError`."""
    prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends. Raises `OSError`."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Refuse other processes of this user the memory and `/proc` entries of this one. Raises `OSError`."""
    prctl(_PR_SET_DUMPABLE, 0)


def drop_privileges() -> None:
    """Give up every capability for good, and the gain of new ones by programs with a set-user-id bit. Raises `OSError`."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            # The kernel knows fewer capabilities, or this user may not change them and has none.
            break
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    system_call(_CAPSET[machine() or X86_64], header, ctypes.create_string_buffer(24))
