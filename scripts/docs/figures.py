"""The current benchmark figures, from the newest run of each kind in `benchmarks/results/`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.results import Run, all_runs, kept_files
from scripts.docs.markdown import table

Figures = dict[str, Any]
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
WORDS = {"job_orchestrator": "orchestrators", "stage_worker": "workers", "ingest": "gateways", "session": "session services"}


def current() -> str:
    """Tables of jobs, of peers, of requests and of searches. Each row names its date and commit."""
    runs = list(all_runs(kept_files()))
    parts = [
        "**Five-stage no-op jobs, beside the limit of the same run**\n\n" + _jobs(runs),
        "**The same job on other engines**\n\n" + _peers(runs),
        "**Requests to the gateway, beside a bare FastAPI route of the same run**\n\n" + _requests(runs),
        "**Searches over a million jobs**\n\n" + _searches(runs),
    ]
    return "\n\n".join(parts)


def newest(runs: Iterable[Run], benchmark: str, kind: Callable[[Run], Any]) -> list[Run]:
    """The last run of each kind, in the order in which kinds first appear."""
    found: dict[Any, Run] = {}
    for run in (run for run in runs if run.benchmark == benchmark):
        known = found.get(kind(run))
        if known is None or run.at >= known.at:
            found[kind(run)] = run
    return list(found.values())


def _jobs(runs: list[Run]) -> str:
    rows = []
    for run in newest(runs, "run", _deployment):
        f = run.figures
        shown, limit = f.get("shown_ms"), f.get("limit_latency_ms")
        rows.append(
            [
                _deployment(run), _when(run), _spread(f["jobs_per_s"]),
                f"{f['of_limit_percent']['median']} % of {_number(f['limit_jobs_per_s'])}", _latency(f["latency_ms"]),
                _latency(limit) if limit else "", f"{f['cpu_ms_per_job']} ms", f"{_number(f['peak_mib'])} MiB", _latency(shown) if shown else "",
            ]
        )  # fmt: skip
    head = [
        "deployment",
        "run",
        "jobs/s (min–max)",
        "of the limit",
        "submit to finish p50 / p99",
        "the limit's",
        "CPU per job",
        "peak memory",
    ]
    return table([*head, "an end is shown after p50 / p99"], rows)


def _peers(runs: list[Run]) -> str:
    rows = []
    for run in newest(runs, "peers", lambda run: run.setup["peer"]):
        f = run.figures
        latency, cpu = f.get("latency_ms"), f.get("cpu_ms_per_job")
        cells = [
            run.setup["peer"],
            _when(run),
            _spread(f["jobs_per_s"]),
            _latency(latency) if latency else "",
            f"{cpu} ms" if cpu else "",
        ]
        rows.append([*cells, run.note])
    return table(["engine", "run", "jobs/s (min–max)", "submit to finish p50 / p99", "CPU per job", ""], rows)


def _requests(runs: list[Run]) -> str:
    rows = []
    for run in newest(runs, "gateway", lambda run: ""):
        f = run.figures
        for name, call, bare in (
            ("POST /v1/jobs", "v1_jobs", "bare_post_64_per_s"),
            ("POST /api/job/create", "create", "bare_post_per_s"),
            ("GET /api/job/detail", "detail", "bare_get_per_s"),
        ):
            if bare not in f:
                continue
            share = f[f"{call}_per_s"] / f[bare]
            rows.append(
                [
                    f"`{name}`",
                    _when(run),
                    _number(f[f"{call}_per_s"]),
                    f"{share:.0%} of {_number(f[bare])}",
                    _latency(f[f"{call}_ms"]),
                ]
            )
    return table(["request", "run", "per second", "of the bare route", "p50 / p99"], rows)


def _searches(runs: list[Run]) -> str:
    rows = []
    for run in newest(runs, "search", lambda run: run.setup["store"]):
        f = run.figures
        value = f["p95_ms_of_all"]
        values = [str(v) for v in (value if isinstance(value, list) else [value])]
        rows.append([STORES[run.setup["store"]], _when(run), ", ".join(values) + " ms", f"{f['p95_ms_of_the_slowest_kind']} ms"])
    return table(["database", "run", "p95 of all kinds", "p95 of the slowest kind"], rows)


def _deployment(run: Run) -> str:
    """The database, and the number of replicas of each scaled service."""
    scale = run.setup.get("scale", {})
    several = " and ".join(f"{count} {WORDS.get(name, name)}" for name, count in scale.items())
    return STORES.get(run.setup.get("store", ""), "") + (f", {several}" if several else "")


def _when(run: Run) -> str:
    return run.at.replace("T", " ") + (f", {run.commit}" if run.commit else "") + (" changed" if run.changed else "")


def _spread(figure: Figures) -> str:
    if "min" not in figure:
        return _number(figure["median"])
    return f"{_number(figure['median'])} ({_number(figure['min'])}–{_number(figure['max'])})"


def _latency(figure: Figures) -> str:
    return f"{_number(figure['p50'])} / {_number(figure['p99'])} ms" if "p99" in figure else f"{_number(figure['p50'])} ms p50"


def _number(value: float) -> str:
    return f"{value:,.0f}"
