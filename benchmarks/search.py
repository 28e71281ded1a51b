"""`python -m benchmarks.search`: job searches over a million jobs, on SQLite and, if its URL is given, PostgreSQL. Nothing is asserted."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text

from benchmarks import results
from services.ingest.adapters.store.job_search import find
from services.ingest.core.job_filter import JobQuery
from services.ingest.core.job_view import new_job
from shared import clock
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.database.store import Store
from shared.settings import Settings

JOBS = int(os.environ.get("BENCH_SEARCH_JOBS", "1000000"))
REPEATS = 25
STAGES = ["completed"] * 90 + ["failed"] * 5 + ["invalid"] * 2 + ["cancelled"] * 2 + ["in_progress"]
out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
_JOB = text(
    "INSERT INTO job_view (id, tenant_id, created_at, body, stage, workflow, stage_since) "
    "VALUES (:id, :tenant, :at, :body, :stage, :workflow, :since)"
)
_TERM = text("INSERT INTO job_term (tenant_id, term, created_at, job_id) VALUES (:tenant, :term, :at, :job)")


def fill(connection: Connection, first: int, count: int, now: float, body: dict[str, Any]) -> None:
    """Insert jobs `first` to `first + count` of ten tenants; one tenant has most of them."""
    rng = random.Random(first)
    jobs, terms = [], []
    for n in range(first, first + count):
        tenant = "big" if rng.random() < 0.9 else f"t{rng.randrange(9)}"
        at, stage, workflow = now - (JOBS - n) * 2.0, rng.choice(STAGES), f"flow-{min(int(rng.expovariate(0.5)), 9)}@1"
        job = f"{n:08d}-0000-7000-8000-000000000000"
        shown = json.dumps({**body, "id": job, "stage": stage, "workflow": workflow, "company_id": tenant})
        since = at + rng.random() * 60
        jobs.append({"id": job, "tenant": tenant, "at": at, "body": shown, "stage": stage, "workflow": workflow, "since": since})
        found = [
            f"tag:{rng.choice(['invoice'] * 6 + ['letter'] * 3 + ['contract'])}",
            f"metadata.case={rng.randrange(JOBS // 10)}",
        ]
        found += [f"job_key:k-{n}", f"file:scan-{rng.randrange(1000)}.pdf"]
        found += [f"error:{rng.choice(['encrypted', 'timeout_queued', 'limit_time'])}"] if stage in ("failed", "invalid") else []
        terms += [{"tenant": tenant, "term": term, "at": at, "job": job} for term in found]
    connection.execute(_JOB, jobs)
    connection.execute(_TERM, terms)


def queries(now: float) -> dict[str, Callable[[random.Random], JobQuery]]:
    """Kind of query → a function that makes one with random values."""
    day = 86_400.0
    return {
        "newest": lambda r: JobQuery("big"),
        "page 500 of the newest": lambda r: JobQuery("big", after=(now - 2.0 * r.randrange(20_000, 40_000), "f")),
        "one stage (common)": lambda r: JobQuery("big", ("completed",)),
        "one stage (rare)": lambda r: JobQuery("big", ("in_progress",)),
        "longest in a stage": lambda r: JobQuery("big", ("in_progress",), since_before=now - day, sort="stage_since"),
        "stage and workflow": lambda r: JobQuery("big", ("failed",), f"flow-{r.randrange(8)}@1"),
        "rare workflow": lambda r: JobQuery("big", (), "flow-9@1"),
        "tag (common)": lambda r: JobQuery("big", (), None, ("tag:invoice",)),
        "tag and stage": lambda r: JobQuery("big", ("failed",), None, ("tag:contract",)),
        "metadata": lambda r: JobQuery("big", (), None, (f"metadata.case={r.randrange(JOBS // 10)}",)),
        "key": lambda r: JobQuery("big", (), None, (f"job_key:k-{r.randrange(JOBS)}",)),
        "file name": lambda r: JobQuery("big", (), None, (f"file:scan-{r.randrange(1000)}.pdf",)),
        "error, workflow, tag, time": lambda r: JobQuery(
            "big", ("failed", "invalid"), f"flow-{r.randrange(4)}@1", ("error:encrypted", "tag:letter"), created_after=now - 10 * day
        ),
        "nothing fits": lambda r: JobQuery("big", ("completed",), "flow-1@1", ("error:encrypted",)),
        "small tenant": lambda r: JobQuery(f"t{r.randrange(9)}", ("failed",)),
    }  # fmt: skip


async def measure(store: Store) -> dict[str, list[float]]:
    """Run each kind of query `REPEATS` times. Returns kind → milliseconds of each run."""
    rng, now = random.Random(7), clock.unix()
    found: dict[str, list[float]] = {}
    for name, make in queries(now).items():
        for _ in range(REPEATS):
            wanted = make(rng)
            started = time.perf_counter()
            await store.read(lambda c, w=wanted: find(c, w, 50))  # type: ignore[misc]
            found.setdefault(name, []).append((time.perf_counter() - started) * 1000)
    return found


async def prepared(store: Store) -> None:
    """Migrate the store and insert `JOBS` jobs, unless it holds jobs already."""
    await migrate(store, "ingest")
    if await store.read(lambda c: c.execute(text("SELECT 1 FROM job_view LIMIT 1")).first()):
        return
    now, body = clock.unix(), new_job("", "", clock.now())
    step = 5000  # the server ends a transaction that idles for long, as one does while Python makes its rows
    for first in range(0, JOBS, step):
        await store.transact(lambda c, f=first: fill(c, f, min(step, JOBS - f), now, body))  # type: ignore[misc]
    if store.shared:
        # Autovacuum would do this within minutes. VACUUM cannot run in a transaction, and `read` opens none.
        await store.read(lambda c: c.execute(text("VACUUM ANALYZE")))
    else:
        await store.transact(lambda c: c.execute(text("ANALYZE")))


def figures_of(found: dict[str, list[float]]) -> dict[str, Any]:
    """The figures of one database for the result file: 95th percentiles in milliseconds."""
    every = [ms for values in found.values() for ms in values]
    kinds = {name: results.percentile(values, 95) for name, values in found.items()}
    return {"p95_ms_of_all": results.percentile(every, 95), "p95_ms_of_the_slowest_kind": max(kinds.values()), "p95_ms": kinds}


async def main() -> int:
    """Measure SQLite, and the PostgreSQL database at `BENCH_POSTGRES_URL` if that is set; print and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    results.add_option(parser)
    target = parser.parse_args().results
    folder = Path(".stageline") / "bench-search"
    folder.mkdir(parents=True, exist_ok=True)
    stores = {"sqlite": open_store(f"sqlite:///{folder.resolve() / 'ingest.db'}")}
    if os.environ.get("BENCH_POSTGRES_URL"):
        stores["postgresql"] = open_store(Settings(database_url=os.environ["BENCH_POSTGRES_URL"]).database_for("ingest"))  # type: ignore[arg-type]
    measured: dict[str, dict[str, list[float]]] = {}
    for name, store in stores.items():
        began = time.monotonic()
        await prepared(store)
        out.print(f"{name}: holds {JOBS} jobs after {time.monotonic() - began:.0f} s")
        measured[name] = await measure(store)
        await store.close()
    table = Table("query", *(f"{n}: p50 ms" for n in measured), *(f"{n}: p95 ms" for n in measured), box=None)
    for query in next(iter(measured.values())):
        spread = [sorted(r[query]) for r in measured.values()]
        table.add_row(query, *(f"{statistics.median(s):.1f}" for s in spread), *(f"{s[int(len(s) * 0.95)]:.1f}" for s in spread))
    out.print(table)
    for name, found in measured.items():
        every = sorted(ms for values in found.values() for ms in values)
        out.print(f"{name}: p95 of all {every[int(len(every) * 0.95)]:.1f} ms, longest {every[-1]:.1f} ms")
        setup = {"store": "postgres" if name == "postgresql" else name, "jobs": JOBS, "kinds": len(found), "repeats": REPEATS}
        results.save(target, "search", setup, figures_of(found), out.print)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
