"""`python -m benchmarks.gateway`: `job/create` and `job/detail` beside a bare FastAPI route, in one run on one machine.

The bare route parses the same body with pydantic and answers JSON. It shows the cost of the framework and the HTTP server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import results
from cli.local.plan import Plan
from cli.local.supervisor import Supervisor

DATA_DIR = Path(".stageline") / "bench-gateway"
COUNT = int(os.environ.get("BENCH_REQUESTS", "2000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
AT_ONCE = 16
BARE = """
import sys
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Body(BaseModel):
    session_id: str
    metadata: dict | None = None

app = FastAPI()

@app.post("/create")
async def create(body: Body) -> dict[str, str]:
    return {"job_id": body.session_id}

@app.get("/status/{job_id}")
async def status(job_id: str) -> dict[str, str]:
    return {"id": job_id, "stage": "completed"}

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
Call = Callable[[int], Awaitable[None]]


@contextlib.asynccontextmanager
async def bare_route() -> AsyncIterator[tuple[str, int]]:
    """Run the bare application; yields its address and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BARE, str(port))
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(200):
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/status/x"):
                        break
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        await process.wait()


async def measure(call: Call, pid: int) -> tuple[float, float, float, float]:
    """Make `COUNT` calls, `AT_ONCE` at a time. Returns requests per second, p50 and p99 in ms, and CPU ms per request of process `pid`."""
    taken: list[float] = []
    numbers = iter(range(COUNT))
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])

    async def work() -> None:
        for number in numbers:
            began = time.perf_counter()
            await call(number)
            taken.append(time.perf_counter() - began)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    elapsed = time.perf_counter() - started
    cpu = sum(process.cpu_times()[:2]) - before
    cuts = statistics.quantiles(taken, n=100)
    return COUNT / elapsed, cuts[49] * 1000, cuts[98] * 1000, cpu * 1000 / COUNT


def caller(http: aiohttp.ClientSession, method: str, url: Callable[[int], str], body: Callable[[int], Any] | None = None) -> Call:
    """A function that makes one request. It raises `RuntimeError` for a status other than 200."""

    async def call(number: int) -> None:
        async with http.request(method, url(number), json=body(number) if body else None) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{method} {answer.url}: {answer.status}")

    return call


async def rounds(url: str, pid: int, key: str) -> dict[str, list[tuple[float, float, float, float]]]:
    """Measure each kind of request `ROUNDS` times, in turns. Returns kind → one result of `measure` per round."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with (
        aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {key}"}) as http,
        bare_route() as (bare, bare_pid),
    ):
        for _ in range(ROUNDS):
            sessions = await _sessions(http, url)
            jobs: dict[int, str] = {}

            async def create(number: int, sessions: list[str] = sessions, jobs: dict[int, str] = jobs) -> None:
                body = {"session_id": sessions[number], "workflow": "noop-five", "metadata": {"n": number}}
                async with http.post(f"{url}/api/job/create", json=body) as answer:
                    jobs[number] = (await answer.json())["job_id"]

            kinds: dict[str, tuple[Call, int]] = {
                "bare route, POST": (caller(http, "POST", lambda n: f"{bare}/create", lambda n: {"session_id": str(n), "metadata": {"n": n}}), bare_pid),
                "job/create": (create, pid),
                "bare route, GET": (caller(http, "GET", lambda n: f"{bare}/status/{n}"), bare_pid),
                "job/detail": (caller(http, "GET", lambda n, jobs=jobs: f"{url}/api/job/detail/{jobs[n]}"), pid),  # type: ignore[misc]
            }  # fmt: skip
            for name, (call, process) in kinds.items():
                found.setdefault(name, []).append(await measure(call, process))
    return found


async def _sessions(http: aiohttp.ClientSession, url: str) -> list[str]:
    """Open `COUNT` sessions with one file each; returns their ids."""
    made: list[str] = []
    numbers = iter(range(COUNT))

    async def work() -> None:
        for number in numbers:
            async with http.post(f"{url}/api/deferred/create") as answer:
                session = (await answer.json())["session_id"]
            form = aiohttp.FormData()
            form.add_field("session_id", session)
            form.add_field("file", f"file {number}".encode(), filename="a.txt")
            async with http.post(f"{url}/api/file/uploadfile", data=form) as answer:
                if answer.status != 200:
                    raise RuntimeError(await answer.text())
            made.append(session)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return made


def figures_of(found: dict[str, list[tuple[float, float, float, float]]]) -> dict[str, Any]:
    """The figures of the result file: medians of the rounds, with their units in the names."""
    figures: dict[str, Any] = {}
    for name, kind in (
        ("create", "job/create"),
        ("detail", "job/detail"),
        ("bare_post", "bare route, POST"),
        ("bare_get", "bare route, GET"),
    ):
        rate, p50, p99, cpu = (statistics.median(column) for column in zip(*found[kind], strict=True))
        figures[f"{name}_per_s"] = round(rate)
        figures[f"{name}_ms"] = {"p50": round(p50), "p99": round(p99)}
        figures[f"{name}_cpu_ms"] = round(cpu, 2)
    return figures


async def main() -> None:
    """Measure, print a table and write the result. Nothing is asserted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway")
    results.add_option(parser)
    folder = parser.parse_args().results
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    os.environ["STAGELINE_REQUESTS_PER_MINUTE"] = "100000000"
    plan = Plan(DATA_DIR, port=0, kafka_port=0)
    supervisor = Supervisor(plan, out.print)
    await supervisor.start()
    try:
        ingest = supervisor.children["ingest"].process
        assert ingest is not None
        found = await rounds(plan.url, ingest.pid, plan.key_file.read_text().strip())
    finally:
        await supervisor.stop()
    table = Table("request", "per second", "p50 ms", "p99 ms", "CPU ms", "of the bare route", box=None)
    bare = {"job/create": "bare route, POST", "job/detail": "bare route, GET"}
    for name, measured in found.items():
        rate, p50, p99, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        share = rate / statistics.median(m[0] for m in found[bare[name]]) if name in bare else None
        table.add_row(name, f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{cpu:.2f}", f"{share:.0%}" if share else "")
    out.print(f"{COUNT} requests of each kind, {AT_ONCE} at a time, medians of {ROUNDS} rounds; jobs run at the same time")
    out.print(table)
    setup = {"store": "sqlite", "requests": COUNT, "rounds": ROUNDS, "at_once": AT_ONCE}
    results.save(folder, "gateway", setup, figures_of(found), out.print)


if __name__ == "__main__":
    asyncio.run(main())
