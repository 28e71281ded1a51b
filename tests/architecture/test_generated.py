"""What is generated from code is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.generate import ROOT, SECTIONS, rendered


@pytest.mark.parametrize("path", SECTIONS, ids=str)
def test_generated_sections_are_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == rendered(path), "run `make docs`"
