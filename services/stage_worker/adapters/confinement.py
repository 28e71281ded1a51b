"""Limits of one document, and the walls around the process that reads it."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from services.stage_worker.adapters.walls import kernel, landlock
from services.stage_worker.adapters.walls.call_filter import Rights, refuse_calls, template

_NEWUSER, _NEWNET = 0x10000000, 0x40000000
"""`CLONE_NEWUSER` and `CLONE_NEWNET` of unshare(2)."""
_SYSTEM = (
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share", "/usr/local/lib", "/usr/local/share", "/lib", "/lib64",
    "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts", "/etc/mime.types", "/dev/urandom", "/dev/random", "/dev/zero",
    "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
)  # fmt: skip
"""Libraries, fonts and data of programs. No settings, no accounts, no folder of a user."""
_SYSTEM_PROGRAMS = (
    "/usr/bin",
    "/usr/local/bin",
    "/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/nix/store",
)
WALLS = ("limits", "privileges", "files", "system_calls", "network", "other_processes")
"""Each wall by its name in the log, on the health page and in `stageline doctor`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Address space and largest file in bytes, CPU in seconds. The wall clock is limited by the task's own `timeout_s`."""

    memory_bytes: int = 2 << 30
    file_bytes: int = 512 << 20
    cpu_s: int = 600


READER = Rights()
PROGRAM_RUNNER = Rights(fork=True, threads=True, execute=True)
PROGRAM = Rights(threads=True, execute=True)


def confine_process(limits: Limits, folder: Path, rights: Rights = READER) -> dict[str, str]:
    """Put the walls around this process for good. Returns each of `WALLS` that is missing, with the reason.

    The process keeps `folder` to work in, and the libraries of the system and of Python to read.
    """
    missing: dict[str, str] = {}
    version = 0

    def files() -> None:
        nonlocal version
        programs = _programs() if rights.execute else ()
        version = landlock.restrict_files(folder, readable_paths(), programs)

    _try("limits", lambda: _set_limits(limits), missing)
    _try("privileges", kernel.drop_privileges, missing)
    _try("files", files, missing)
    _try("system_calls", lambda: refuse_calls(rights), missing)
    if "system_calls" in missing:
        if not _network_namespace():
            missing["network"] = "without the filter of system calls, a reader can open connections"
        if 0 < version < landlock.CUTS_SINCE:
            missing["files"] = (
                f"Landlock has version {version} here; without the filter of system calls, {landlock.CUTS_SINCE} is needed"
            )
        if version < 6:
            missing["other_processes"] = "without the filter of system calls, a reader can signal other processes"
    return missing


def _try(wall: str, put: Callable[[], None], missing: dict[str, str]) -> None:
    try:
        put()
    except OSError as error:
        missing[wall] = error.strerror or str(error)


def _set_limits(limits: Limits) -> None:
    for kind, value, more in (
        (resource.RLIMIT_AS, limits.memory_bytes, 0),
        # At the soft limit comes SIGXCPU, which names the cause; at the hard one SIGKILL.
        (resource.RLIMIT_CPU, limits.cpu_s, 1),
        (resource.RLIMIT_FSIZE, limits.file_bytes, 0),
        (resource.RLIMIT_NOFILE, 256, 0),
        # Counts all processes and threads of the user, so that it must leave room for the worker's own.
        (resource.RLIMIT_NPROC, 4096, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound + more if hard == resource.RLIM_INFINITY else min(bound + more, hard)))


def _network_namespace() -> bool:
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    return unshare is not None and any(unshare(flags) == 0 for flags in (_NEWNET, _NEWUSER | _NEWNET))


def prepare() -> None:
    """Work out once, before processes are forked, what each of them needs to confine itself."""
    readable_paths()
    kernel.libc()
    architecture = kernel.machine()
    if architecture is not None:
        for rights in (READER, PROGRAM_RUNNER, PROGRAM):
            template(architecture, rights)


@lru_cache(maxsize=1)
def readable_paths() -> tuple[Path, ...]:
    """Files and folders that every confined process may read: libraries and data of the system, of Python and of the readers."""
    paths = sysconfig.get_paths()
    python = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # The base installation also holds shared libraries beside the standard library.
    python |= {path.parent for path in python if path.parent.name in ("lib", "lib64")}
    own = Path(__file__).resolve().parents[1]
    found = sorted(path for path in {*map(Path, _SYSTEM), *python, own, *_tesseract_folders()} if path.exists())
    return tuple(path for path in found if not any(other in path.parents for other in found))


@lru_cache(maxsize=1)
def _programs() -> tuple[Path, ...]:
    return tuple(sorted({*map(Path, _SYSTEM_PROGRAMS), *(path for path in _tesseract_folders() if path.name != "share")}))


def _tesseract_folders() -> set[Path]:
    """Where tesseract keeps itself and its data, when the system's folders do not hold it."""
    named = os.environ.get("TESSDATA_PREFIX")
    found = shutil.which("tesseract")
    folders = {Path(named)} if named else set()
    if found is not None:
        home = Path(found).resolve().parent.parent
        if str(home) not in ("/", "/usr", "/usr/local"):
            folders |= {home / "bin", home / "lib", home / "share"}
    return folders
