"""Results of benchmarks as data, `benchmarks/results/*.json`. Each run of a command writes a new file."""

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
Kind = Literal["run", "gateway", "search", "peers", "walks", "chaos", "after-load"]


class Machine(BaseModel):
    """The machine of a run. Nothing here identifies it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: int
    memory_gib: int | None = None
    system: str | None = None
    note: str = ""


class Run(BaseModel):
    """One run of one benchmark. A figure's name holds its unit; a spread is `{median, min, max}`, a latency `{p50, p99}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: Kind
    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2})?$")
    """Start of the run in UTC, to the minute; the day alone if the time is unknown."""
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{7,40}$")
    """The commit that ran. None: unknown."""
    changed: bool = False
    """True when files differed from the commit."""
    machine: Machine
    python: str | None = None
    setup: dict[str, Any] = {}
    """Parameters of the run: store, scale, jobs, rounds."""
    figures: dict[str, Any]
    note: str = ""


RUNS = TypeAdapter(list[Run])


class Comparison(BaseModel):
    """Versions or variants measured in turns on one machine. `figures`: variant → its value, or one value per round."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2})?$")
    store: Literal["sqlite", "postgres"] | None = None
    rounds: int | None = None
    unit: str
    figures: dict[str, float | list[float]]
    note: str = ""


COMPARISONS = TypeAdapter(list[Comparison])


def all_runs(paths: Iterable[Path]) -> Iterator[Run]:
    """Every run in the result files. Raises `pydantic.ValidationError` for an invalid file."""
    for path in sorted(paths):
        if path.name != "comparisons.json":
            yield from RUNS.validate_json(path.read_bytes())


def kept_files() -> list[Path]:
    """The result files that are committed, so that a new run changes no document before it is added. Without git: all files."""
    names = _git("ls-files", "benchmarks/results/*.json").splitlines()
    return [ROOT / name for name in names] or list(FOLDER.glob("*.json"))


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--results FOLDER`, which every benchmark has."""
    parser.add_argument("--results", default=str(FOLDER), metavar="FOLDER", help="where the result is written; '' writes none")


def save(folder: str, benchmark: Kind, setup: dict[str, Any], figures: dict[str, Any], say: Callable[[str], None]) -> None:
    """Write one run, with machine, commit and time, to a new file, and print its path. Writes nothing if `folder` is empty."""
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
    """The part of a file's name that distinguishes runs of the same second: store or peer."""
    return str(setup.get("store") or setup.get("peer") or "all").lower()


def this_machine() -> Machine:
    """Cores, memory and operating system."""
    memory = round(psutil.virtual_memory().total / (1 << 30))
    return Machine(cores=os.cpu_count() or 1, memory_gib=memory, system=f"{sys.platform} {platform.machine()}")


def spread(values: Sequence[float], digits: int = 0) -> dict[str, float]:
    """Median, minimum and maximum of the rounds."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """50th and 99th percentile in milliseconds."""
    return {f"p{q}": round(percentile([second * 1000 for second in seconds], q)) for q in (50, 99)}


def percentile(values: Sequence[float], q: int) -> float:
    """The `q`-th percentile of `values`, rounded to a tenth."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 1)


def _git(*words: str) -> str:
    """Output of a git command. Empty without git or outside a repository."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
