"""`python -m benchmarks.after_load`: memory and idle CPU of each process at the start, and again after load has ended.

The load is five-stage no-op jobs of a tenant with a webhook endpoint, so that each event is delivered by HTTP as well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.load import Ends, Meter, backlog, our_end, our_job, producer
from cli.local.plan import Plan
from cli.local.supervisor import Supervisor
from contracts.topics import JOB_EVENTS_TOPIC
from shared.kafka.credentials import ADMIN

DATA_DIR = Path(".stageline") / "bench-after-load"
JOBS = int(os.environ.get("BENCH_JOBS", "5000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SETTLE_S = int(os.environ.get("BENCH_SETTLE_S", "30"))
"""Seconds between the end of the load and the measurement, and the same after the start."""
WATCH_S = 20.0
"""Seconds over which the idle CPU time is measured."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Idle:
    """What a process uses while nothing happens."""

    mib: float
    """Memory of its own and its children's (`Uss`: without pages that other processes share)."""
    cpu_percent: float
    """Of one core."""


async def watch(pids: dict[str, int]) -> dict[str, Idle]:
    """Measure each process over `WATCH_S` seconds."""
    meter = Meter(pids)
    began = time.monotonic()
    await asyncio.sleep(WATCH_S)
    spent, took = meter.cpu_s(), time.monotonic() - began
    return {name: Idle(uss_mib(pid), spent[name] / took * 100) for name, pid in pids.items()}


def uss_mib(pid: int) -> float:
    """Memory of a process without shared pages, in MiB."""
    return float(psutil.Process(pid).memory_full_info().uss) / 2**20


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """A webhook receiver that takes everything; yields its URL."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def register(plan: Plan, url: str) -> None:
    """Register the receiver for all events of the tenant `default`."""
    key = (await asyncio.to_thread(plan.key_file.read_text)).strip()
    hooks = f"http://127.0.0.1:{plan.ports['notifier']}/v1/webhooks"
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.post(hooks, json={"url": url}) as answer:
        answer.raise_for_status()


async def delivered(data_dir: Path) -> int:
    """Wait until no delivery waits; returns their number."""

    def counts() -> tuple[int, int]:
        with contextlib.closing(sqlite3.connect(f"file:{data_dir}/notifier.db?mode=ro", uri=True)) as store:
            row = store.execute("SELECT count(*), count(due_at) FROM delivery").fetchone()
        return int(row[0]), int(row[1])

    while True:
        before = await asyncio.to_thread(counts)
        await asyncio.sleep(2)
        if before[1] == 0 and await asyncio.to_thread(counts) == before:
            return before[0]


async def run(wanted: argparse.Namespace) -> int:
    """Start the services, measure, load, measure again and stop; returns the exit code. Nothing is asserted."""
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    plan = Plan(DATA_DIR, port=0, kafka_port=0, allow_loopback=True)
    supervisor = Supervisor(plan, out.print)
    await supervisor.start()
    os.environ.update(plan.credentials.settings(ADMIN, plan.bootstrap))
    try:
        async with receiver() as url:
            await register(plan, url)
            await asyncio.sleep(SETTLE_S)
            before = await watch(supervisor.pids())
            rates, count = await load(plan)
            await asyncio.sleep(SETTLE_S)
            after = await watch(supervisor.pids())
    finally:
        await supervisor.stop()
    report(before, after)
    figures = {
        "jobs_per_s": results.spread(rates),
        "deliveries": count,
        "at_start": _figures(before),
        "after_load": _figures(after),
    }
    setup = {"store": "sqlite", "jobs": JOBS, "rounds": ROUNDS, "settle_s": SETTLE_S}
    results.save(wanted.results, "after-load", setup, figures, out.print)
    return 0


async def load(plan: Plan) -> tuple[list[float], int]:
    """Run the jobs, and wait for their deliveries. Returns jobs per second of each round, and the number of deliveries."""
    sink = producer(plan.bootstrap)
    await sink.start()
    async with Ends(plan.bootstrap, JOB_EVENTS_TOPIC.name, our_end) as ends:
        rates = [await backlog(sink, ends, our_job, JOBS) for _ in range(ROUNDS)]
    await sink.stop()
    return rates, await delivered(plan.data_dir)


def _figures(found: dict[str, Idle]) -> dict[str, Any]:
    return {name: {"mib": round(idle.mib), "idle_percent_of_a_core": round(idle.cpu_percent, 1)} for name, idle in found.items()}


def report(before: dict[str, Idle], after: dict[str, Idle]) -> None:
    """Print the measurements."""
    table = Table("process", "MiB at the start", "after load", "idle % of a core at the start", "after load", box=None)
    for name, old in before.items():
        new = after[name]
        table.add_row(name, f"{old.mib:.0f}", f"{new.mib:.0f}", f"{old.cpu_percent:.1f}", f"{new.cpu_percent:.1f}")
    out.print(table)


def main() -> int:
    """Run the benchmark by its command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.after_load")
    results.add_option(parser)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
