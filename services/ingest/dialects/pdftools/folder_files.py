"""Files of a watched folder. Other programs write into it, so that nothing about a file holds until it is open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

MOST_LISTED = 200
"""Files that one scan takes up."""
PLACES = ("in", "taken", "out", "failed")
LONGEST_NAME = 255
"""Bytes of a file's name that the usual file systems allow."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unfit(Exception):
    """This file can never be converted; the text says why."""


class Changed(Exception):
    """The file is still being written, or another has taken its place; a later attempt may read it whole."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What shows that a file is still the same: its inode, its size in bytes, and when it was changed."""

    inode: tuple[int, int]
    size: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Facts:
        """The facts of a `stat` or `fstat`."""
        return cls((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


def prepare(folder: Path) -> dict[str, Path]:
    """The four places of a watched folder by name. Missing ones are created with the folder's own rights."""
    places = {name: folder / name for name in PLACES}
    for place in places.values():
        if not place.exists():
            place.mkdir(parents=True)
            place.chmod(stat.S_IMODE(folder.stat().st_mode))
    return places


def listed(place: Path, without: Iterable[Path] = ()) -> dict[Path, Facts]:
    """Regular files of a place, at most `MOST_LISTED` beside those in `without`. Links are left out: they may lead elsewhere."""
    left_out = set(without)
    found: dict[Path, Facts] = {}
    for name in sorted(os.listdir(place)):
        path = place / name
        if name.startswith(".") or path in left_out:
            continue
        with contextlib.suppress(FileNotFoundError):
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode):
                found[path] = Facts.of(facts)
        if len(found) >= MOST_LISTED:
            break
    return found


def readable_name(path: Path) -> str:
    """The file's name as text. Raises `Unfit` for a name that is no UTF-8 (from Latin-1 systems, for example)."""
    try:
        return os.fsencode(path.name).decode()
    except UnicodeDecodeError:
        raise Unfit("The file's name is not UTF-8, so that it cannot be shown. Rename the file.") from None


def shown_name(path: Path) -> str:
    """The file's name for people; bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(path.name).decode(errors="replace")


def fitted(name: str, suffix: str = "", room: int = LONGEST_NAME) -> str:
    """`name` with `suffix`, in at most `room` bytes. A name that is too long keeps its end: the suffix, or else its extension."""
    stem, _, extension = name.rpartition(".")
    stem, ending = (name, suffix) if suffix or not stem or len(extension) > 20 else (stem, f".{extension}")
    return os.fsencode(stem)[: room - len(os.fsencode(ending))].decode(errors="ignore") + ending


def take(path: Path, folder: Path, facts: Facts) -> Path:
    """Move a file into `folder`, under its name after the time of its last change. Returns the new path."""
    prefix = f"{facts.changed_ns}-"
    name = prefix + path.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = prefix + fitted(shown_name(path), room=LONGEST_NAME - len(prefix))
    return path.replace(folder / name)


class OpenFile:
    """A file that is open for reading, and still the one that was listed. Raises `Unfit`, `Changed` and `OSError`."""

    def __init__(self, path: Path, expected: Facts) -> None:
        try:
            self.descriptor = os.open(path, _OPEN)
        except PermissionError:
            raise Unfit("The file cannot be read: the service has no right to it.") from None
        found = os.fstat(self.descriptor)
        self.facts = Facts.of(found)
        if not stat.S_ISREG(found.st_mode) or self.facts != expected:
            self.close()
            raise Changed("the file is not the one that was listed")

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes. Raises `Changed` when the file was changed while it was read."""
        count = 0
        while chunk := await asyncio.to_thread(os.read, self.descriptor, 1 << 20):
            count += len(chunk)
            if count > self.facts.size:
                break  # it grows, maybe for ever
            yield chunk
        if count != self.facts.size or Facts.of(os.fstat(self.descriptor)) != self.facts:
            raise Changed("the file was changed while it was read")

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


async def write_atomically(target: Path, data: bytes) -> None:
    """Write a file so that readers of the folder see all of it or nothing. Those who may read the folder may read the file."""

    def write() -> None:
        # A name that nobody can guess: else a link placed under it would lead the bytes elsewhere.
        part = target.with_name(f".{secrets.token_hex(16)}.part")
        descriptor = os.open(part, _CREATE, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                os.fchmod(stream.fileno(), stat.S_IMODE(target.parent.stat().st_mode) & 0o666)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    await asyncio.to_thread(write)
