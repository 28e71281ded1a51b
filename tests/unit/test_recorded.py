"""`decide` answers recorded histories exactly as it did when they were recorded, byte by byte."""

from __future__ import annotations

import pytest

from tests.simulation.flows import BODIES
from tests.unit.recorded import FOLDER, history


@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_recorded_history_is_decided_the_same(name: str) -> None:
    assert history(name) == (FOLDER / f"{name}.txt").read_text()


def test_the_histories_have_every_kind_of_event() -> None:
    said = "".join(path.read_text() for path in FOLDER.glob("*.txt"))
    for event in (
        "grant",
        "timer",
        "OK",
        "RUN",
        "KO",
        "ERR",
        "SKIP",
        "QUEUED",
        "PauseJob",
        "ResumeJob",
        "RetryJobNow",
        "PokeJob",
        "TerminateJob",
        "rerun",
    ):
        assert f"\n{event}" in said, event
