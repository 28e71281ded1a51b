"""`python -m benchmarks.peers [PEER…]`: five-stage no-op jobs on each peer that `benchmarks/peers/setup` installed, in sequence.

Redis appends to its log every second; PostgreSQL commits durably. Prints medians of the rounds with their spread. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import results
from cli.local.plan import free_ports
from shared.embedded.postgres import EmbeddedPostgres
from shared.errors import Stop

HERE = Path(__file__).parent
PYTHON = Path(".stageline/peers/bin/python")
PEERS = {"dramatiq_peer": 1, "taskiq_peer": 1, "celery_peer": 1, "dbos_peer": 2, "temporal_peer": 1}
"""Peer → number of worker programs to start. Some programs start two processes."""
JOBS, ROUNDS, QUICK = int(os.environ.get("BENCH_PEER_JOBS", "600")), 3, 50
NAMES = {
    "dramatiq_peer": "Dramatiq",
    "taskiq_peer": "Taskiq",
    "celery_peer": "Celery",
    "dbos_peer": "DBOS",
    "temporal_peer": "Temporal",
}
FEWER = {"temporal_peer": 6}
"""Peer → divisor of the number of jobs per round, so that a slow peer's round ends within minutes."""
Server = tuple[dict[str, str], list[int]]
"""Environment variables that name a server, and the pids of the server."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """Run a Redis that syncs its log every second; yields its URL and pid."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--dir",
            folder,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield f"redis://127.0.0.1:{port}/0", process.pid
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """Run a PostgreSQL that commits durably."""
    server = EmbeddedPostgres(free_ports(1)[0])
    server.start()
    try:
        yield {"PEER_POSTGRES": server.url.replace("+asyncpg", "")}, [server.process.pid] if server.process else []
    finally:
        server.stop()


def listening(port: int) -> bool:
    """True when a local process accepts connections on the port."""
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def temporal_server() -> Iterator[Server]:
    """Run Temporal's development server, with SQLite in memory. Raises `Stop` if it is not installed or does not start."""
    program = shutil.which("temporal") or shutil.which(str(PYTHON.absolute().parent / "temporal"))
    if program is None:
        raise Stop("not_installed", "Temporal's development server is not installed")
    port, http = free_ports(2)
    command = [program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port), "--http-port", str(http)]
    process = subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Stop("peer", "Temporal's development server did not start")
            time.sleep(0.2)
        yield {"PEER_TEMPORAL": f"127.0.0.1:{port}"}, [process.pid]
    finally:
        process.terminate()
        process.wait()


SERVERS = {"dbos_peer": postgres_server, "temporal_peer": temporal_server}
"""Peer → the server that it needs beside Redis."""


def tree(pids: list[int]) -> list[psutil.Process]:
    """The processes and all their descendants."""
    found = [psutil.Process(pid) for pid in pids]
    return [p for root in found for p in (root, *root.children(recursive=True))]


def cpu_s(pids: list[int]) -> float:
    """CPU seconds of the processes and all their descendants."""
    total = 0.0
    for process in tree(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def measure(peer: str, environment: dict[str, str], servers: list[int]) -> dict[str, Any]:
    """Start the peer's workers, run the load and end the workers. Returns rates, latencies and CPU ms per job.

    Raises `Stop` with the load's last line of output if it fails.
    """
    workers = [
        subprocess.Popen([str(PYTHON.absolute()), f"{peer}.py", "worker", f"w{n}"], cwd=HERE, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for n in range(PEERS[peer])
    ]  # fmt: skip
    try:
        time.sleep(5)
        pids = [*servers, *(w.pid for w in workers)]
        before = cpu_s(pids)
        command = [str(PYTHON.absolute()), "load.py", peer, str(JOBS // FEWER.get(peer, 1)), str(ROUNDS), str(QUICK)]
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=900)
        if done.returncode != 0:
            raise Stop("peer", (done.stderr.strip().splitlines() or ["no output"])[-1][:200])
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return {**found, "cpu_ms": (cpu_s(pids) - before) * 1000 / found["ended"]}
    finally:
        for worker in workers:
            for process in tree([worker.pid])[::-1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            worker.wait()


def figures_of(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one peer for the result file, with their units in the names."""
    return {
        "jobs_per_s": results.spread(found["rates"]), "latency_ms": results.latency(found["latencies"]),
        "cpu_ms_per_job": round(found["cpu_ms"], 1),
    }  # fmt: skip


def main() -> int:
    """Measure the peers and print a table; returns the exit code. A peer that is not installed gets a row with the reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join(PEERS))
    results.add_option(parser)
    wanted = parser.parse_args()
    unknown = set(wanted.peers) - PEERS.keys()
    if unknown:
        parser.error(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if not PYTHON.exists() or not shutil.which("redis-server"):
        out.print("The peers are not installed: benchmarks/peers/setup")
        return 1
    table = Table("peer", "jobs/s (median, min-max)", "p50 ms at 5/s", "p99 ms", "CPU ms per job", box=None)
    for peer in wanted.peers or PEERS:
        with contextlib.ExitStack() as stack:
            url, pid = stack.enter_context(redis_server())
            environment = {**os.environ, "PEER_REDIS": url}
            try:
                more, servers = stack.enter_context(SERVERS[peer]()) if peer in SERVERS else ({}, [])
                found = measure(peer, {**environment, **more}, [pid, *servers])
                slow = found["latencies"]
                setup = {"peer": NAMES[peer], "jobs": JOBS // FEWER.get(peer, 1), "rounds": ROUNDS}
                results.save(wanted.results, "peers", setup, figures_of(found), out.print)
                table.add_row(
                    peer.removesuffix("_peer"), f"{statistics.median(found['rates']):.0f} ({min(found['rates']):.0f}-{max(found['rates']):.0f})",
                    f"{statistics.median(slow) * 1000:.0f}", f"{slow[int(len(slow) * 0.99)] * 1000:.0f}", f"{found['cpu_ms']:.1f}",
                )  # fmt: skip
            except (Stop, subprocess.TimeoutExpired) as error:
                table.add_row(peer.removesuffix("_peer"), f"not measured: {error}", "", "", "")
    out.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
