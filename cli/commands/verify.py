"""`stageline verify`: compares every job's events with the services' databases."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from cli.command import DEFAULT_DATA_DIR, AsJson, DataDir, show

Every = Annotated[float, typer.Option("--every", help="Repeat with this many seconds between runs")]


def verify(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR, every: Every = 0.0) -> None:
    """Rebuild every job from its events and compare it with the databases. Exit code 1 when they differ.

    With OTEL_EXPORTER_OTLP_ENDPOINT set, the metric `pipeline.audit.differences` reports the number of differences.

    Example: stageline verify --every 3600
    """
    # Imported here because only this command needs them; the other commands start faster.
    from cli.inspect.audit import patiently
    from cli.inspect.history import reading
    from shared.telemetry.tracing import Telemetry

    telemetry = Telemetry.from_environment("verify", "verify")
    while True:
        found = reading(patiently(data_dir))
        telemetry.record("pipeline.audit.differences", float(len(found["differences"])))
        _say(found, as_json)
        if not every:
            break
        asyncio.run(asyncio.sleep(every))
    telemetry.shutdown()
    if found["differences"]:
        raise typer.Exit(1)


def _say(found: dict[str, Any], as_json: bool) -> None:
    lines = [f"{d['job_id']}: {d['what']}" for d in found["differences"][:50]]
    total = f"{found['jobs']} jobs, {found['events']} events, {len(found['differences'])} differences"
    show(found, as_json, lambda: "\n".join([*lines, total]))
