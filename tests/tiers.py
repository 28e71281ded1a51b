"""Tests that need an outside program: skipped with the reason if it is missing, or failed if the run requires it.

`STAGELINE_REQUIRE=docker,node` (set by `.ci/run` for what the machine has) turns those skips into failures.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import KAFKA_IMAGE, POSTGRES_IMAGE, docker_has

HAS = {
    "docker": lambda: docker_has(POSTGRES_IMAGE) and docker_has(KAFKA_IMAGE),
    "node": lambda: shutil.which("node") is not None and shutil.which("npm") is not None,
    "nginx": lambda: shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is not None,
    "go": lambda: shutil.which("go") is not None,
    "libmagic": lambda: ctypes.util.find_library("magic") is not None,
}


def missing(what: str) -> bool:
    """True when the tests that need `what` are to be skipped. Fails the run where it is required."""
    if HAS[what]():
        return False
    if what in os.environ.get("STAGELINE_REQUIRE", "").split(","):
        pytest.exit(f"{what} is required here (STAGELINE_REQUIRE) and is missing", returncode=1)
    return True


def needs(what: str) -> pytest.MarkDecorator:
    """A marker for tests that need `what`."""
    return pytest.mark.skipif(missing(what), reason=f"no {what} here")


def npm_installed(source: Path, target: Path) -> Path:
    """A copy of a Node.js project beside the packages of its lock file; the copy's folder."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], check=True, cwd=target)
    return target
