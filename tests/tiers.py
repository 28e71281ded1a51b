"""Tiers that need something from outside: skipped with the reason where it is missing, failed where it must not be.

`STAGELINE_REQUIRE=docker,node` (set by `.ci/run` for what the machine has) turns those skips into failures.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.servers import KAFKA_IMAGE, POSTGRES_IMAGE, docker_has

HAS = {
    "docker": lambda: docker_has(POSTGRES_IMAGE) and docker_has(KAFKA_IMAGE),
    "node": lambda: shutil.which("node") is not None and shutil.which("npm") is not None,
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
