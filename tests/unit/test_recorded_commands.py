"""Every command prints what was recorded: its help with an example, and each form of its output."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.canned_gateway import Gateway, serving
from tests.unit.recorded_commands import FOLDER, names, path_of, recording


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


@pytest.mark.parametrize("name", names())
def test_a_command_prints_what_was_recorded(gateway: Gateway, name: str) -> None:
    assert recording(name, gateway) == path_of(name).read_text(), "record again: python -m tests.unit.recorded_commands"


def test_no_recording_is_of_a_command_that_is_gone() -> None:
    assert {path.name for path in FOLDER.glob("*.txt")} == {path_of(name).name for name in names()}


@pytest.mark.parametrize("name", names())
def test_no_command_ends_in_a_traceback(name: str) -> None:
    assert "Traceback" not in path_of(name).read_text()
