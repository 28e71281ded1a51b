"""An archive of Kafka's loaded classes, with which a broker listens in half the time.

The first broker that stops regularly writes the archive, which takes some seconds (an AOT cache in Java 25, JEP 514; before that a
class data archive, JEP 350). Every later JVM with the same Java and jars maps the file. A JVM that cannot use it starts without.
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
"""First Java that writes an AOT cache in one step. Its bundled build lacks the base archive that a class data archive needs."""


class ClassArchive:
    """The archive for the program `java` of a major `version` with the class path `jars`. A broker writes a new one in `folder`."""

    def __init__(self, java: Path, version: int, jars: Sequence[Path], folder: Path) -> None:
        program = java.resolve()
        # An archive fits one build of the JVM. A replaced Java at the same path has another modification time.
        facts = [str(program), str(program.stat().st_mtime_ns), *map(str, jars)]
        self.key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
        self.cache = cache_folder() / "kafka"
        self.made = folder / "classes.jsa"
        # An unusable archive and an unarchivable class are not worth a warning.
        self._quiet = "-Xlog:cds*=error" if version < AOT else "-Xlog:cds*=error,aot*=error"
        self._use, self._make = ("SharedArchiveFile", "ArchiveClassesAtExit") if version < AOT else ("AOTCache", "AOTCacheOutput")

    def kept(self) -> Path | None:
        """The archive, or None. Its name contains its size, because Java 17 crashes on a truncated one."""
        return next(
            (path for path in self.cache.glob(f"{self.key}-*.jsa") if path.stem.endswith(f"-{path.stat().st_size}")), None
        )

    def reading(self) -> list[str]:
        """JVM options that use the archive; none without one."""
        found = self.kept()
        return [self._quiet, f"-XX:{self._use}={found}"] if found is not None else []

    def writing(self) -> list[str]:
        """JVM options of a broker that uses the archive, or writes it when it stops."""
        # A file that is already there was left by a broker that was killed while it wrote.
        self.made.unlink(missing_ok=True)
        return self.reading() or [self._quiet, f"-XX:{self._make}={self.made}"]

    def keep(self) -> None:
        """Publish the archive of a broker that stopped regularly for later ones. Without disk space there is no archive."""
        part = self.cache / f"{self.key}.{os.getpid()}.part"
        try:
            if self.made.exists():
                with self.made.open("rb") as made, part.open("wb") as copy:
                    shutil.copyfileobj(made, copy, 1 << 20)
                    copy.flush()
                    # Synced before it is renamed, so that a power cut leaves all of it or nothing.
                    os.fsync(copy.fileno())
                part.replace(self.cache / f"{self.key}-{part.stat().st_size}.jsa")
        except OSError:
            part.unlink(missing_ok=True)
        finally:
            with contextlib.suppress(OSError):
                self.made.unlink(missing_ok=True)
