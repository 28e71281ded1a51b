"""What the log, the health page and readiness say of the sandbox, and where which setting holds."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.local.plan import Plan
from services.stage_worker.adapters.confinement import WALLS
from services.stage_worker.app import _report_walls
from services.stage_worker.settings import WorkerSettings
from shared.runtime.health import Health
from tests.architecture.sources import ROOT


async def reported(missing: dict[str, str], required: bool) -> tuple[dict[str, Any], list[str | None]]:
    """The details of the health page, and the answers of the checks."""
    host: Any = SimpleNamespace(health=Health())
    _report_walls(host, missing, required)
    return host.health.details["sandbox"], [await check() for check in host.health.checks]


async def test_all_walls_stand(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await reported({}, True) == (dict.fromkeys(WALLS, "stands"), [])
    assert "all walls of the sandbox stand" in caplog.text


@pytest.mark.parametrize("required", [True, False])
async def test_a_missing_wall_is_named(required: bool, caplog: pytest.LogCaptureFixture) -> None:
    details, [check] = await reported({"files": "Function not implemented"}, required)
    assert details["files"] == "Function not implemented" and details["limits"] == "stands"
    assert ("documents are refused" in str(check)) is required and ("documents are refused" in caplog.text) is required


def test_images_require_all_walls_and_a_local_pipeline_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAGELINE_SANDBOX", raising=False)
    assert WorkerSettings().sandbox == "required" and "STAGELINE_SANDBOX=required" in (ROOT / "Dockerfile").read_text()
    plan = Plan(tmp_path, port=0, kafka_port=0)
    plan.resolve()
    assert plan.environment("stage_worker")["STAGELINE_SANDBOX"] == "best_effort"
    monkeypatch.setenv("STAGELINE_SANDBOX", "required")
    assert plan.environment("stage_worker")["STAGELINE_SANDBOX"] == "required"
