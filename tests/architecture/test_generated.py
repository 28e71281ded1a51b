"""What is generated from code is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.registry import check
from tests.architecture.generate import ROOT, SECTIONS, rendered, whole_files


@pytest.mark.parametrize("path", SECTIONS, ids=str)
def test_generated_sections_are_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == rendered(path), "run `make docs`"


@pytest.mark.parametrize("path", whole_files(), ids=str)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == whole_files()[path], "run `make docs`"


def test_the_contracts_are_what_was_released_and_fit_all_that_was() -> None:
    assert check() == []
