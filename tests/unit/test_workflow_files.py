"""Errors of a workflow file name the file, line, field and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.commands.workflows import faults
from cli.main import app
from services.job_orchestrator.app import BUILT_IN

GOOD = "name: w\nversion: 1\nsteps:\n  - {name: a, action: b.c}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "  - name: x\n    action: Not An Action\n", ":6: steps.1.action: String should match"),
        (GOOD + "  - {name: x, action: y, when: 'tag =='}\n", ":5: steps.1.when: Value error"),
        (GOOD + "  - {name: a, action: y}\n", ":1: workflow: Value error, step names must be unique: a"),
        (GOOD.replace("version: 1", "version: 0"), ":2: version: Input should be greater"),
        (GOOD + "colour: red\n", ":5: colour: Extra inputs"),
        ("name: w\nsteps:\n  - [\n", ":4: "),
        ("", ":1: workflow: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_an_error_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(text)
    found = faults(file)
    assert any(said in fault for fault in found), found


def test_exit_codes(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text("name: W\n")
    assert CliRunner().invoke(app, ["workflows", "validate", str(good)]).exit_code == 0
    assert CliRunner().invoke(app, ["workflows", "validate", str(good), str(bad), str(tmp_path / "none")]).exit_code != 0
    assert [fault for path in BUILT_IN.glob("*.yaml") for fault in faults(path)] == []
