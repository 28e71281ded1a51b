"""`python -m benchmarks.gateway`: `POST /v1/jobs`, `job/create` and `job/detail` beside a bare FastAPI route, in one run.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import results
from cli.local.plan import Plan
from cli.local.supervisor import Supervisor
from contracts import JobStage
from shared import clock
from shared.web.form_data import FormData

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


Measured = tuple[float, float, float, float]
"""Requests per second, p50 and p99 in ms, CPU ms per request of the server."""


@dataclass(frozen=True)
class Kind:
    """One kind of request: how many are made at a time, by which function, of which process, and beside which kind."""

    call: Call
    pid: int
    at_once: int = AT_ONCE
    beside: str | None = None


async def measure(kind: Kind, count: int) -> Measured:
    """Make `count` calls, so many at a time as the kind says."""
    taken: list[float] = []
    numbers = iter(range(count))
    process = psutil.Process(kind.pid)
    before = sum(process.cpu_times()[:2])

    async def work() -> None:
        for number in numbers:
            began = time.perf_counter()
            await kind.call(number)
            taken.append(time.perf_counter() - began)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(kind.at_once)))
    elapsed = time.perf_counter() - started
    cpu = sum(process.cpu_times()[:2]) - before
    cuts = statistics.quantiles(taken, n=100)
    return count / elapsed, cuts[49] * 1000, cuts[98] * 1000, cpu * 1000 / count


def caller(
    http: aiohttp.ClientSession, method: str, url: Callable[[int], str], body: Callable[[int], Any] | None = None,
    status: int = 200, keyed: bool = False,
) -> Call:  # fmt: skip
    """A function that makes one request, under an idempotency key if `keyed`. It raises `RuntimeError` for another status."""

    async def call(number: int) -> None:
        headers = {"idempotency-key": clock.new_root()} if keyed else None
        async with http.request(method, url(number), json=body(number) if body else None, headers=headers) as answer:
            text = await answer.text()
            if answer.status != status:
                raise RuntimeError(f"{method} {answer.url}: {answer.status} {text[:200]}")

    return call


class Load:
    """The kinds of requests to one gateway, and the jobs that they make."""

    def __init__(self, http: aiohttp.ClientSession, url: str, pid: int, bare: tuple[str, int]) -> None:
        self.http = http
        self.url = url
        self.jobs: list[str] = []
        self.sessions: list[str] = []
        bare_url, bare_pid = bare

        def new(number: int) -> dict[str, Any]:
            return {"workflow": "noop-five", "metadata": {"n": number}}

        def bare_body(number: int) -> dict[str, Any]:
            return {"session_id": str(number), "metadata": {"n": number}}

        post = caller(http, "POST", lambda n: f"{bare_url}/create", bare_body)
        jobs = f"{url}/v1/jobs"
        self.kinds = {
            "bare POST, 64 at once": Kind(post, bare_pid, 64),
            "POST /v1/jobs, 64 at once": Kind(caller(http, "POST", lambda n: jobs, new, 201), pid, 64, "bare POST, 64 at once"),
            "the same with a key": Kind(caller(http, "POST", lambda n: jobs, new, 201, True), pid, 64, "bare POST, 64 at once"),
            "bare POST": Kind(post, bare_pid),
            "job/create": Kind(self.create, pid, beside="bare POST"),
            "bare GET": Kind(caller(http, "GET", lambda n: f"{bare_url}/status/{n}"), bare_pid),
            "job/detail": Kind(caller(http, "GET", lambda n: f"{url}/api/job/detail/{self.jobs[n]}"), pid, beside="bare GET"),
            "1,000 POST /v1/jobs at once": Kind(caller(http, "POST", lambda n: jobs, new, 201), pid, 1000),
        }

    async def create(self, number: int) -> None:
        """Create a job from a session of its own."""
        body = {"session_id": self.sessions[number], "workflow": "noop-five", "metadata": {"n": number}}
        async with self.http.post(f"{self.url}/api/job/create", json=body) as answer:
            self.jobs.append((await answer.json())["job_id"])

    async def drained(self) -> None:
        """Wait until every job has ended."""
        query = [("limit", "1"), *(("stage", stage.value) for stage in JobStage if not stage.terminal)]
        while True:
            async with self.http.get(f"{self.url}/v1/jobs", params=query) as answer:
                if not (await answer.json())["result"]:
                    return
            await asyncio.sleep(0.2)


async def rounds(url: str, pid: int, key: str) -> tuple[dict[str, list[Measured]], dict[str, Kind]]:
    """Measure each kind of request `ROUNDS` times, in turns, each when the jobs of the one before have ended."""
    found: dict[str, list[Measured]] = {}
    connector = aiohttp.TCPConnector(limit=1000)
    async with (
        aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {key}"}) as http,
        bare_route() as bare,
    ):
        load = Load(http, url, pid, bare)
        for _ in range(ROUNDS):
            load.sessions, load.jobs = await _sessions(http, url), []
            for name, kind in load.kinds.items():
                await load.drained()
                found.setdefault(name, []).append(await measure(kind, max(COUNT, kind.at_once)))
    return found, load.kinds


async def _sessions(http: aiohttp.ClientSession, url: str) -> list[str]:
    """Open `COUNT` sessions with one file each; returns their ids."""
    made: list[str] = []
    numbers = iter(range(COUNT))

    async def work() -> None:
        for number in numbers:
            async with http.post(f"{url}/api/deferred/create") as answer:
                session = (await answer.json())["session_id"]
            form = FormData()
            form.add_field("session_id", session)
            form.add_field("file", f"file {number}".encode(), filename="a.txt")
            async with http.post(f"{url}/api/file/uploadfile", data=form) as answer:
                if answer.status != 200:
                    raise RuntimeError(await answer.text())
            made.append(session)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return made


NAMES = {
    "bare POST, 64 at once": "bare_post_64", "POST /v1/jobs, 64 at once": "v1_jobs", "the same with a key": "v1_jobs_keyed",
    "bare POST": "bare_post", "job/create": "create", "bare GET": "bare_get", "job/detail": "detail",
    "1,000 POST /v1/jobs at once": "v1_jobs_1000",
}  # fmt: skip
"""Kind of request → the beginning of its names in the result file."""


def medians(measured: list[Measured]) -> Measured:
    """The medians of the rounds."""
    rate, p50, p99, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
    return rate, p50, p99, cpu


def figures_of(found: dict[str, list[Measured]]) -> dict[str, Any]:
    """The figures of the result file: medians of the rounds, with their units in the names."""
    figures: dict[str, Any] = {}
    for kind, name in NAMES.items():
        rate, p50, p99, cpu = medians(found[kind])
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
        found, kinds = await rounds(plan.url, ingest.pid, plan.key_file.read_text().strip())
    finally:
        await supervisor.stop()
    table = Table("request", "per second", "p50 ms", "p99 ms", "CPU ms", "of the bare route", box=None)
    for name, measured in found.items():
        rate, p50, p99, cpu = medians(measured)
        beside = kinds[name].beside
        share = f"{rate / medians(found[beside])[0]:.0%}" if beside else ""
        table.add_row(name, f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{cpu:.2f}", share)
    out.print(f"{COUNT} requests of each kind, {AT_ONCE} at a time unless it says more, medians of {ROUNDS} rounds")
    out.print(table)
    setup = {
        "store": "sqlite",
        "requests": COUNT,
        "rounds": ROUNDS,
        "at_once": AT_ONCE,
        "kinds_wait_for_the_end_of_all_jobs": True,
    }
    results.save(folder, "gateway", setup, figures_of(found), out.print)


if __name__ == "__main__":
    asyncio.run(main())
