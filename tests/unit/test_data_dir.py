"""The data directory belongs to its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cli.local.plan import Plan, prepare_data_dir


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_one_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "data")
    before = os.umask(0)
    try:
        assert prepare_data_dir(plan.data_dir, plan.key_file) is None
    finally:
        os.umask(before)
    assert {mode(plan.data_dir), mode(plan.run_dir), mode(plan.data_dir / "logs")} == {0o700} and mode(plan.key_file) == 0o600


def test_an_open_one_is_closed(tmp_path: Path) -> None:
    plan = Plan(tmp_path)
    tmp_path.chmod(0o2777)
    plan.key_file.write_text("a key of an earlier release")
    plan.key_file.chmod(0o644)
    assert prepare_data_dir(plan.data_dir, plan.key_file) is None
    assert mode(tmp_path) & 0o777 == 0o700 and mode(plan.key_file) == 0o600
    assert plan.key_file.read_text() == "a key of an earlier release"


def test_one_that_cannot_be_closed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)

    def refuse(path: Path, wanted: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    warning = prepare_data_dir(tmp_path, Plan(tmp_path).key_file)
    assert warning is not None and str(tmp_path) in warning and "other users can read" in warning


@pytest.mark.parametrize(
    ("environment", "needs_key"),
    [
        ({}, "0"), ({"STAGELINE_CONVERSION_NEEDS_KEY": "1"}, "1"), ({"STAGELINE_CONVERSION_NEEDS_KEY": "true"}, "1"),
        ({"STAGELINE_HOST": "0.0.0.0"}, "1"), ({"STAGELINE_HOST": "0.0.0.0", "STAGELINE_CONVERSION_NEEDS_KEY": "0"}, "0"),
        ({"STAGELINE_HOST": "::1"}, "0"),
    ],
)  # fmt: skip
def test_up_asks_for_no_key_on_the_loopback_alone(
    environment: dict[str, str], needs_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STAGELINE_HOST", "STAGELINE_CONVERSION_NEEDS_KEY", "STAGELINE_PUBLIC_URL", "STAGELINE_NOTIFIER_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plan = Plan(tmp_path, ports={"ingest": 8080, "notifier": 8081, "kafka": 29092})
    found = plan.environment("ingest")
    assert found["STAGELINE_CONVERSION_NEEDS_KEY"] == needs_key and found["STAGELINE_PUBLIC_URL"] == "http://127.0.0.1:8080"
    assert found["STAGELINE_NOTIFIER_PUBLIC_URL"] == "http://127.0.0.1:8081"
    monkeypatch.setenv("STAGELINE_PUBLIC_URL", "https://documents.example.com")
    for name in ("STAGELINE_PUBLIC_URL", "STAGELINE_NOTIFIER_PUBLIC_URL"):
        assert plan.environment("ingest")[name] == "https://documents.example.com"
