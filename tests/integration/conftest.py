"""Fixtures of the integration tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Collect what a module leaves behind: clients that were cut off log their exceptions when they are collected.

    With Python 3.11 a traceback that is formatted while `ast.parse` runs, which a collection can cause, makes that `ast.parse` fail with a
    `SystemError`. It would happen in any later test.
    """
    yield
    gc.collect()
