"""A process's own view of files by Landlock (Linux 5.13): what it may read, and one folder that it may write."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from services.stage_worker.adapters.walls.kernel import machine, system_call

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_CONNECT = 3
_SOCKETS_AND_SIGNALS = 3
CUTS_SINCE = 3
"""Since this version (Linux 6.2) Landlock also keeps a file outside from being cut; before, the filter of system calls does."""


def version() -> int:
    """Version of Landlock in this kernel; 0 without it."""
    if machine() is None:
        return 0
    try:
        return system_call(_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def restrict_files(folder: Path, readable: Iterable[Path], programs: Iterable[Path] = ()) -> int:
    """Leave this process `folder` to read and write, without folders or links in it, and `readable` to read.

    Files under `programs` may also be started. Processes outside cannot be traced, nor signalled since version 6. Needs `no_new_privs`.
    Returns Landlock's version. Raises `OSError` where the kernel or the container has none.
    """
    known = version()
    handled = (1 << 13) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        handled |= right if known >= since else 0
    fields = [handled, *([_BIND_CONNECT] if known >= 4 else []), *([_SOCKETS_AND_SIGNALS] if known >= 6 else [])]
    attributes = ctypes.create_string_buffer(struct.pack(f"={len(fields)}Q", *fields), 8 * len(fields))
    rules = system_call(_CREATE, attributes, 8 * len(fields), 0)
    try:
        _allow(rules, folder, handled & (_READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE | _REMOVE_FILE | _MAKE_REG))
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        for path in programs:
            _allow(rules, path, _READ_FILE | _READ_DIR | _EXECUTE)
        _allow(rules, Path("/dev/null"), handled & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
        system_call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return known


def _allow(rules: int, path: Path, rights: int) -> None:
    """Allow `rights` beneath `path`. A path that is missing needs no rule."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            rights &= _OF_A_FILE
        system_call(_ADD, rules, _PATH_BENEATH, ctypes.create_string_buffer(struct.pack("=Qi", rights, found)), 0)
    finally:
        os.close(found)
