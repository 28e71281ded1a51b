"""Results of benchmarks as data, `benchmarks/results/*.json`: each run of a command writes one new file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FOLDER = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


class Machine(BaseModel):
    """What it ran on. Nothing here identifies the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: int
    memory_gib: int | None = None
    system: str | None = None
    note: str = ""


class Run(BaseModel):
    """One run of one benchmark. Figures carry their unit in the name; a spread is `{median, min, max}`, a latency `{p50, p99}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: Literal["run", "door", "search", "peers"]
    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2})?$")
    """When it began: UTC, to the minute, or the day where no more is known."""
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{7,40}$")
    """The commit it ran on; none where it was not noted."""
    changed: bool = False
    """True when files differed from the commit."""
    machine: Machine
    python: str | None = None
    setup: dict[str, Any] = {}
    """What was measured and how: store, scale, jobs and rounds."""
    figures: dict[str, Any]
    note: str = ""


RUNS = TypeAdapter(list[Run])


class Comparison(BaseModel):
    """Versions or variants that took turns on one machine. `figures` holds a value, or one per round, of each variant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2})?$")
    store: Literal["sqlite", "postgres"] | None = None
    rounds: int | None = None
    unit: str
    figures: dict[str, float | list[float]]
    note: str = ""


COMPARISONS = TypeAdapter(list[Comparison])


def all_runs(folder: Path = FOLDER) -> Iterator[Run]:
    """Every run of every result file. Raises `pydantic.ValidationError` for a file that is not as described here."""
    for path in sorted(folder.glob("*.json")):
        if path.name != "comparisons.json":
            yield from RUNS.validate_json(path.read_bytes())


def save(benchmark: Literal["run", "door", "search", "peers"], setup: dict[str, Any], figures: dict[str, Any]) -> Path:
    """Write one run with this machine, commit and time. Returns the new file's path."""
    now = datetime.now(UTC)
    commit = _git("rev-parse", "--short", "HEAD")
    run = Run(
        benchmark=benchmark, at=now.strftime("%Y-%m-%dT%H:%M"), commit=commit or None, changed=bool(_git("status", "--porcelain")),
        machine=this_machine(), python=f"{platform.python_version()}, {platform.python_compiler()}", setup=setup, figures=figures,
    )  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{benchmark}-{now:%Y-%m-%dT%H%M%S}.json"
    path.write_text(f"[\n {json.dumps(run.model_dump(exclude_defaults=True), ensure_ascii=False)}\n]\n")
    return path


def this_machine() -> Machine:
    """Cores, memory and operating system."""
    memory = round(psutil.virtual_memory().total / (1 << 30))
    return Machine(cores=os.cpu_count() or 1, memory_gib=memory, system=f"{sys.platform} {platform.machine()}")


def spread(values: Sequence[float], digits: int = 0) -> dict[str, float]:
    """Median, smallest and largest of the rounds."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """50th and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    return {f"p{q}": round(ordered[min(len(ordered) - 1, len(ordered) * q // 100)] * 1000) for q in (50, 99)}


def _git(*words: str) -> str:
    """What git prints; empty without git or outside a repository."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
