"""`make bench`: five-stage no-op jobs through the real services and through the limit, in turns, in one run on one broker.

Options measure more: `--store postgres`, `--fan-out 50`, `--in-flight 100000`. `make bench BENCH='…'` passes them on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import platform
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from benchmarks import results, scenarios
from benchmarks.load import Ends, Meter, backlog, bare_job, our_end, our_job, producer, trickle
from cli.local.plan import Plan, free_ports
from cli.local.supervisor import Supervisor
from contracts.topics import JOB_EVENTS_TOPIC
from shared.embedded.postgres import EmbeddedPostgres
from shared.kafka.credentials import ADMIN
from stageline_kit import kafka_options

DATA_DIR = Path(".stageline") / "bench"
JOBS = int(os.environ.get("BENCH_JOBS", "5000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
TRICKLE_S = int(os.environ.get("BENCH_TRICKLE_S", "60"))
SLOW_JOBS = max(1, 5 * TRICKLE_S // ROUNDS)
"""Jobs of each round that are sent at 5 per second."""
STAGE_UPDATES = 6
"""`JobStageUpdate` events of one job: five steps and the end."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


async def make_limit_topics(bootstrap: str) -> None:
    """Create the limit's topics, with as many partitions as Stageline's by default."""
    admin = AIOKafkaAdminClient(**kafka_options(bootstrap))
    await admin.start()
    await admin.create_topics([NewTopic(f"limit.{n}", 6, 1) for n in ("commands", "events", "tasks", "reports", "done")])
    await admin.close()


@contextlib.asynccontextmanager
async def bare_relay(bootstrap: str) -> AsyncIterator[None]:
    """Run the limit's two processes on the database that Stageline runs on, and end them afterwards."""
    command = [sys.executable, "-m", "benchmarks.limit"]
    database = os.environ.get("STAGELINE_DATABASE_URL", str(DATA_DIR / "limit.db"))
    relay = await asyncio.create_subprocess_exec(*command, "relay", bootstrap, database)
    worker = await asyncio.create_subprocess_exec(*command, "worker", bootstrap)
    try:
        yield
    finally:
        for process in (relay, worker):
            process.terminate()
            await process.wait()


def options() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--fan-out", type=int, default=0, help="files of a wide job")
    parser.add_argument("--in-flight", type=int, default=0, help="waiting jobs in the store")
    parser.add_argument("--scale", action="append", default=[], help="SERVICE=N, on PostgreSQL; may repeat")
    results.add_option(parser)
    return parser.parse_args()


async def main() -> int:
    """Run the benchmark, print tables and write the result; returns the exit code. Nothing is asserted."""
    wanted = options()
    server = None
    if wanted.store == "postgres":
        server = EmbeddedPostgres(free_ports(1)[0])
        await asyncio.to_thread(server.start)
        os.environ["STAGELINE_DATABASE_URL"] = server.url
    try:
        return await run(wanted, {"postgres": server.process.pid} if server is not None and server.process is not None else {})
    finally:
        if server is not None:
            await asyncio.to_thread(server.stop)


async def run(wanted: argparse.Namespace, beside: dict[str, int]) -> int:
    """Start the services, measure and stop them. `beside`: name → pid of processes to measure that the supervisor did not start."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs errors while a new topic has no leader yet
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    scale = {name: int(n) for name, _, n in (x.partition("=") for x in wanted.scale)}
    plan = Plan(DATA_DIR, port=0, kafka_port=0, scale=scale)
    supervisor = Supervisor(plan, out.print)
    await supervisor.start()
    # The load and the limit connect as the super user: the limit's topics are not in the topic table.
    os.environ.update(plan.credentials.settings(ADMIN, plan.bootstrap))
    try:
        figures = await measure(plan, supervisor.pids() | beside)
        figures |= await more(plan, wanted)
    finally:
        await supervisor.stop()
    setup = {"store": wanted.store, "scale": scale, "jobs": JOBS, "rounds": ROUNDS, "latency_jobs": SLOW_JOBS * ROUNDS}
    setup |= {"fan_out": wanted.fan_out, "in_flight": wanted.in_flight}
    results.save(wanted.results, "run", {name: value for name, value in setup.items() if value}, figures, out.print)
    return 0


@dataclass
class Found:
    """Measurements of all rounds: jobs/s (`ours`, `limit`), seconds from submit to finish (`quick`, `bare_quick`), seconds until the
    gateway shows an end (`lags`), and CPU seconds per process."""

    ours: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    quick: list[float] = field(default_factory=list)
    bare_quick: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    cpu: Counter[str] = field(default_factory=Counter)


async def measure(plan: Plan, pids: dict[str, int]) -> dict[str, Any]:
    """Measure Stageline and the limit in turns. Returns the figures of the result file."""
    bootstrap = f"127.0.0.1:{plan.ports['kafka']}"
    await asyncio.sleep(10)
    idle = Meter(pids)
    begin = time.monotonic()
    await asyncio.sleep(10)
    idle_share = sum(idle.cpu_s().values()) / (time.monotonic() - begin)
    sink = producer(bootstrap)
    await sink.start()
    await make_limit_topics(bootstrap)
    found = Found()
    out.print(
        f"{JOBS} five-stage no-op jobs a round, {ROUNDS} rounds; {os.cpu_count()} cores, broker included; everything durable; "
        f"Python {platform.python_version()} built with {platform.python_compiler()}"
    )
    async with Ends(bootstrap, JOB_EVENTS_TOPIC.name, our_end) as ends, Ends(bootstrap, "limit.done", lambda r: True) as done:
        # Warm up the broker's JIT compiler, so that the first round is not slower than the limit's first round.
        await backlog(sink, ends, our_job, JOBS // 3)
        await trickle(sink, ends, our_job, 50, 25)
        # In turns, close together: the speed of a shared machine changes within minutes.
        for _ in range(ROUNDS):
            await our_round(plan, sink, ends, pids, found)
            await bare_round(bootstrap, sink, done, found)
    await sink.stop()
    peak = Meter(pids).peak_mib()
    report(found, peak, idle_share)
    return figures_of(found, sum(peak.values()), idle_share)


async def our_round(plan: Plan, sink: AIOKafkaProducer, ends: Ends, pids: dict[str, int], found: Found) -> None:
    """One turn of Stageline; adds its measurements to `found`."""
    found.quick += await trickle(sink, ends, our_job, SLOW_JOBS, 5)
    meter = Meter(pids)
    async with scenarios.Visibility(f"http://127.0.0.1:{plan.ports['ingest']}", DATA_DIR / "admin.key", ends) as visible:
        found.ours.append(await backlog(sink, ends, our_job, JOBS))
    found.cpu.update(meter.cpu_s())
    found.lags += visible.lags


async def bare_round(bootstrap: str, sink: AIOKafkaProducer, done: Ends, found: Found) -> None:
    """One turn of the limit; adds its measurements to `found`."""
    async with bare_relay(bootstrap):
        await trickle(sink, done, bare_job, 50, 25)
        found.bare_quick += await trickle(sink, done, bare_job, SLOW_JOBS, 5)
        found.limit.append(await backlog(sink, done, bare_job, JOBS))


async def more(plan: Plan, wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure wide jobs, and jobs beside many waiting ones, if the options ask for them. Returns their figures."""
    figures: dict[str, Any] = {}
    if not wanted.fan_out and not wanted.in_flight:
        return figures
    bootstrap = f"127.0.0.1:{plan.ports['kafka']}"
    await scenarios.publish(f"http://127.0.0.1:{plan.ports['ingest']}", DATA_DIR / "admin.key", scenarios.WIDE, scenarios.WAITS)
    sink = producer(bootstrap)
    await sink.start()
    async with Ends(bootstrap, JOB_EVENTS_TOPIC.name, our_end) as ends:
        if wanted.fan_out:
            stages = await scenarios.fan_out(sink, ends, wanted.fan_out)
            figures["file_stages_per_s"] = round(stages)
            out.print(f"fan-out of {wanted.fan_out}: {stages:.0f} stages of files completed per second")
        if wanted.in_flight:
            few = await scenarios.beside(sink, ends, JOBS // 2, ROUNDS)
            took = await scenarios.fill(sink, wanted.in_flight)
            # These jobs are behind the waiting ones in the partitions, so the store has all of them afterwards.
            await trickle(sink, ends, our_job, 20, 5)
            many = await scenarios.beside(sink, ends, JOBS // 2, ROUNDS)
            figures["in_flight"] = {"jobs": wanted.in_flight, "jobs_per_s": round(many), "jobs_per_s_without": round(few)}
            out.print(
                f"with {wanted.in_flight} jobs in flight (sent within {took:.0f} s): {many:.0f} jobs/s, {many / few:.0%} of {few:.0f}"
            )
    await sink.stop()
    return figures


def figures_of(found: Found, peak_mib: float, idle_share: float) -> dict[str, Any]:
    """The figures of the result file, with their units in the names."""
    shares = [ours / limit * 100 for ours, limit in zip(found.ours, found.limit, strict=True)]
    figures: dict[str, Any] = {
        "jobs_per_s": results.spread(found.ours), "limit_jobs_per_s": round(statistics.median(found.limit)),
        "of_limit_percent": results.spread(shares, 1) | {"rounds": [round(share, 1) for share in shares]},
        "latency_ms": results.latency(found.quick), "limit_latency_ms": results.latency(found.bare_quick),
        "cpu_ms_per_job": round(sum(found.cpu.values()) / JOBS / len(found.ours) * 1000, 2),
        "peak_mib": round(peak_mib), "idle_percent_of_a_core": round(idle_share * 100, 1),
    }  # fmt: skip
    return figures | ({"shown_ms": results.latency(found.lags)} if len(found.lags) > 1 else {})


def report(found: Found, peak: dict[str, float], idle_share: float) -> None:
    """Print the measurements."""
    table = Table("", "jobs/s (median, min-max)", "stage updates/s", "submit to finish at 5/s: p50 ms", "p99 ms", box=None)
    for name, rates, times in (("Stageline", found.ours, found.quick), ("limit", found.limit, found.bare_quick)):
        middle = statistics.median(rates)
        quantiles = [f"{sorted(times)[min(len(times) - 1, int(len(times) * q))] * 1000:.0f}" for q in (0.5, 0.99)]
        table.add_row(name, f"{middle:.0f} ({min(rates):.0f}-{max(rates):.0f})", f"{middle * STAGE_UPDATES:.0f}", *quantiles)
    out.print(table)
    shares = [ours / limit for ours, limit in zip(found.ours, found.limit, strict=True)]
    each = ", ".join(f"{share:.1%}" for share in shares)
    out.print(f"\nratio: {statistics.median(shares):.1%} of the limit, the median of rounds taken in turns: {each}\n")
    jobs = JOBS * len(found.ours)
    parts = Table("process", "CPU ms per job", "peak MiB", box=None)
    for name, seconds in found.cpu.items():
        parts.add_row(name, f"{seconds / jobs * 1000:.3f}", f"{peak[name]:.0f}")
    parts.add_row("all", f"{sum(found.cpu.values()) / jobs * 1000:.3f}", f"{sum(peak.values()):.0f}")
    out.print(parts)
    out.print(f"\nidle: {idle_share:.1%} of a core over 10 s, broker and all services")
    if len(found.lags) > 1:
        cuts = statistics.quantiles(found.lags, n=100)
        shown = f"{cuts[49] * 1000:.0f} ms p50, {cuts[98] * 1000:.0f} ms p99, at full load ({len(found.lags)} samples)"
        out.print(f"the gateway shows a job's end after {shown}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
