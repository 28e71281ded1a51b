"""Kafka's classes as the JVM keeps them for later starts, so that a broker listens in half the time.

The first broker that runs and ends in an orderly way writes them as it ends, which takes it some seconds (Java 25: an AOT cache, JEP 514;
before: a class data archive, JEP 350). Every later JVM with the same Java and jars maps the file. A JVM that cannot use it does without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from shared.embedded.jars import cache_folder

AOT = 25
"""The first Java that writes an AOT cache in one step; its bundled build has no archive that a class data archive could build on."""


class ClassArchive:
    """What `java` (the program, of a major `version`) keeps of `jars` (the class path). `folder`: where a broker writes a new archive."""

    def __init__(self, java: Path, version: int, jars: Sequence[Path], folder: Path) -> None:
        program = java.resolve()
        # Another Java in the same place is told by its time: an archive is for one build of the JVM only.
        facts = [str(program), str(program.stat().st_mtime_ns), *map(str, jars)]
        self.key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
        self.cache = cache_folder() / "kafka"
        self.made = folder / "classes.jsa"
        # An archive that cannot be used, or a class that cannot be kept, is nobody's concern.
        self._quiet = "-Xlog:cds*=error" if version < AOT else "-Xlog:cds*=error,aot*=error"
        self._use, self._make = ("SharedArchiveFile", "ArchiveClassesAtExit") if version < AOT else ("AOTCache", "AOTCacheOutput")

    def kept(self) -> Path | None:
        """The archive, if there is a whole one: its name says its size, for Java 17 dies of one that was cut off."""
        return next(
            (path for path in self.cache.glob(f"{self.key}-*.jsa") if path.stem.endswith(f"-{path.stat().st_size}")), None
        )

    def reading(self) -> list[str]:
        """Options of a JVM that uses the archive, if there is one."""
        found = self.kept()
        return [self._quiet, f"-XX:{self._use}={found}"] if found is not None else []

    def writing(self) -> list[str]:
        """Options of a broker that uses the archive, or writes it when it ends."""
        # What a broker that was killed at its end has left is not whole.
        self.made.unlink(missing_ok=True)
        return self.reading() or [self._quiet, f"-XX:{self._make}={self.made}"]

    def keep(self) -> None:
        """After a broker ended in an orderly way: what it wrote is for all later ones. Without room for it, there is none."""
        part = self.cache / f"{self.key}.{os.getpid()}.part"
        try:
            if self.made.exists():
                with self.made.open("rb") as made, part.open("wb") as copy:
                    shutil.copyfileobj(made, copy, 1 << 20)
                    copy.flush()
                    # Before it has its name: after a power cut there is all of it or nothing.
                    os.fsync(copy.fileno())
                part.replace(self.cache / f"{self.key}-{part.stat().st_size}.jsa")
        except OSError:
            part.unlink(missing_ok=True)
        finally:
            with contextlib.suppress(OSError):
                self.made.unlink(missing_ok=True)
