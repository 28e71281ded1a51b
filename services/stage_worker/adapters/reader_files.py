"""The files that a reader left in its folder, opened as a stranger's: no links, no pipes, bounded in size and number."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.core.reader_result import MAX_RESULT_BYTES

MAX_OUTPUTS = 200
MAX_OUTPUT_BYTES = 1 << 30
"""Bytes of all outputs together."""
MAX_ENTRIES = 20_000
MAX_FOLDER_BYTES = 4 << 30
"""Files in a reader's folder, and their size together, while it runs."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_files(folder: Path, file_bytes: int) -> tuple[bytes, dict[str, Any]]:
    """The content of `result.json`, and `output` or `outputs`: what the reader made. `file_bytes`: of one file at most.

    Raises `crashed` for a file that is missing, too large, or no regular file of its own.
    """
    with _opened(folder) as inside:
        raw = _read(inside, "result.json", MAX_RESULT_BYTES)
        if raw is None:
            raise _unfit("result.json", "missing")
        found: dict[str, Any] = {}
        single = _read(inside, "output", file_bytes)
        if single is not None:
            found["output"] = single
        several: list[bytes] = []
        left = MAX_OUTPUT_BYTES
        while (data := _read(inside, f"output-{len(several)}", min(file_bytes, left))) is not None:
            several.append(data)
            left -= len(data)
            if len(several) > MAX_OUTPUTS:
                raise _unfit("outputs", f"more than {MAX_OUTPUTS}")
    return raw, found | ({"outputs": several} if several else {})


def overfull(folder: Path) -> bool:
    """True once the folder holds more than a reader may write."""
    size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
            if count > MAX_ENTRIES or size > MAX_FOLDER_BYTES:
                return True
    return False


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(inside: int, name: str, limit: int) -> bytes | None:
    """The content of a file, or None if there is none. Raises `crashed`."""
    try:
        descriptor = os.open(name, _FLAGS, dir_fd=inside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unfit(name, str(error.strerror)) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise _unfit(name, "no file of its own")
        if facts.st_size > limit:
            raise _unfit(name, f"larger than {limit} bytes")
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            return stream.read(limit)
    finally:
        os.close(descriptor)


def _unfit(name: str, reason: str) -> DocumentFault:
    return DocumentFault("crashed", f"The reader of this file left a result that cannot be used ({name}: {reason}).")
