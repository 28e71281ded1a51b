"""Results of benchmarks as data, `benchmarks/results/*.json`: each run of a command writes one new file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FOLDER = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
Kind = Literal["run", "door", "search", "peers"]


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

    benchmark: Kind
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


def all_runs(paths: Iterable[Path]) -> Iterator[Run]:
    """Every run of the result files. Raises `pydantic.ValidationError` for a file that is not as described here."""
    for path in sorted(paths):
        if path.name != "comparisons.json":
            yield from RUNS.validate_json(path.read_bytes())


def kept_files() -> list[Path]:
    """The result files that git knows, so that a run of this minute changes no document; all of them where there is no git."""
    names = _git("ls-files", "benchmarks/results/*.json").splitlines()
    return [ROOT / name for name in names] or list(FOLDER.glob("*.json"))


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--results FOLDER`, which every benchmark takes."""
    parser.add_argument("--results", default=str(FOLDER), metavar="FOLDER", help="where the result is written; '' writes none")


def save(folder: str, benchmark: Kind, setup: dict[str, Any], figures: dict[str, Any], say: Callable[[str], None]) -> None:
    """Write one run with this machine, commit and time as a new file, and tell where. An empty `folder` writes nothing."""
    if not folder:
        return
    now = datetime.now(UTC)
    commit = _git("rev-parse", "--short", "HEAD")
    run = Run(
        benchmark=benchmark, at=now.strftime("%Y-%m-%dT%H:%M"), commit=commit or None, changed=bool(_git("status", "--porcelain")),
        machine=this_machine(), python=f"{platform.python_version()}, {platform.python_compiler()}", setup=setup, figures=figures,
    )  # fmt: skip
    path = Path(folder) / f"{benchmark}-{now:%Y-%m-%dT%H%M%S}-{suffix(setup)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n {json.dumps(run.model_dump(exclude_defaults=True), ensure_ascii=False)}\n]\n")
    say(f"written: {path}")


def suffix(setup: dict[str, Any]) -> str:
    """The part of a file's name that tells runs of one second apart: store or peer."""
    return str(setup.get("store") or setup.get("peer") or "all").lower()


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
    return {f"p{q}": round(percentile([second * 1000 for second in seconds], q)) for q in (50, 99)}


def percentile(values: Sequence[float], q: int) -> float:
    """The `q`-th percentile of values, to a tenth."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 1)


def _git(*words: str) -> str:
    """What git prints; empty without git or outside a repository."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
