"""`stageline new worker NAME`: what it makes is valid and passes its own test, and nothing that exists is touched."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client import CliError
from cli.commands.new import SOURCES, package_of, worker
from cli.commands.workflows import faults


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What the command printed: word → line."""
    monkeypatch.chdir(tmp_path)
    worker("my-words")
    lines = [line.partition(": ") for line in capsys.readouterr().out.splitlines()]
    return {word: line.strip() for word, _, line in lines}


def test_the_made_test_passes_and_the_made_workflow_is_valid(made: dict[str, str]) -> None:
    assert faults(Path("my-words/my-words.yaml")) == []
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{Path('my-words').resolve()}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "my-words"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_install_line_names_the_kit_by_its_path(made: dict[str, str]) -> None:
    first, second = made["install"].split(" && ")
    assert shlex.split(first) == [sys.executable, "-m", "venv", "my-words/venv"]
    *_, contracts, kit, editable, own = shlex.split(second)
    assert (Path(contracts), Path(kit)) == (SOURCES / "contracts", SOURCES / "stageline_kit")
    assert (editable, own) == ("-e", "./my-words[test]")
    assert "--actions my_words.work" in made["run"] and made["run"].endswith("my-words/venv/bin/python -m my_words")


def test_with_wheels_the_kit_is_installed_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dist").mkdir()
    with pytest.raises(CliError, match="make dist"):
        worker("words", wheels=Path("dist"))
    assert not Path("words").exists(), "a refused command leaves nothing behind"
    for name in ("stageline_contracts", "stageline_kit"):
        Path(f"dist/{name}-0.3.0-py3-none-any.whl").touch()
    worker("words", wheels=Path("dist"))
    assert "install ./dist/stageline_contracts-0.3.0-py3-none-any.whl ./dist/stageline_kit-" in capsys.readouterr().out


def test_a_folder_with_files_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words").mkdir()
    Path("words/mine").write_text("mine")
    with pytest.raises(CliError, match="exists already"):
        worker("words")
    assert [p.name for p in Path("words").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["Words", "1st", "", "a b", "../x", "json", "text", "stageline_kit", "class", "x" * 41])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(CliError):
        package_of(name)
