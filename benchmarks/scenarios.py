"""Further measurements of `python -m benchmarks.run`: wide jobs, jobs beside many waiting ones, and visibility."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from benchmarks.load import Ends, Job, backlog, our_job
from contracts import CreateJob, FileRef, JobRequest, Tenancy, derived, to_record
from shared import clock

OWNER = Tenancy(tenant_id="default", tenant_name="Default", user_name="bench")
WIDE = {"name": "bench-wide", "version": 1, "steps": [{"name": f"s{n}", "action": "noop"} for n in range(3)]}
WAITS = {"name": "bench-waits", "version": 1, "steps": [{"name": "ask", "scope": "job", "wait": {"kind": "poke"}}]}


async def publish(url: str, key_file: Path, *definitions: dict[str, Any]) -> None:
    """Publish the workflows of these measurements."""
    key = (await asyncio.to_thread(key_file.read_text)).strip()
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as http:
        for body in definitions:
            async with http.post(f"{url}/v1/workflows/{body['name']}/publish", json=body) as answer:
                answer.raise_for_status()


def job_of(workflow: str, files: int) -> Job:
    """A job of `files` empty files."""
    job_id = clock.new_root()
    refs = tuple(FileRef(file_id=derived(job_id, "f", n), file_name=f"{n}.txt", blob_name="none") for n in range(files))
    command = CreateJob(
        command_id=derived(job_id, "c"),
        job_id=job_id,
        owner=OWNER,
        issued_at=clock.now(),
        job=JobRequest(workflow=workflow),
        files=refs,
    )
    record = to_record(command, "/bench")
    return job_id, "job.commands", record.value, list(record.headers)


async def fan_out(sink: AIOKafkaProducer, ends: Ends, files: int, jobs: int = 60, rounds: int = 3) -> float:
    """Send jobs of `files` files and three steps. Returns completed file stages per second, the median of the rounds."""
    return statistics.median(
        [await backlog(sink, ends, lambda: job_of("bench-wide", files), jobs) * files * 3 for _ in range(rounds)]
    )


async def fill(sink: AIOKafkaProducer, count: int, per_s: int = 1500) -> float:
    """Send `count` jobs that wait for a signal, at `per_s`. Returns the seconds that it took."""
    began = time.monotonic()
    for start in range(0, count, 500):
        made = [job_of("bench-waits", 0) for _ in range(min(500, count - start))]
        acks = [await sink.send(topic, value, i.encode(), headers=headers) for i, topic, value, headers in made]
        await asyncio.gather(*acks)
        await asyncio.sleep(max(0.0, began + start / per_s - time.monotonic()))
    return time.monotonic() - began


async def beside(sink: AIOKafkaProducer, ends: Ends, jobs: int, rounds: int) -> float:
    """Completed no-op jobs per second, the median of the rounds, beside the jobs that wait."""
    return statistics.median([await backlog(sink, ends, our_job, jobs) for _ in range(rounds)])


class Visibility:
    """Samples how long after a job's end the gateway shows it, while a backlog drains. `lags` in seconds, including the request."""

    def __init__(self, url: str, key_file: Path, ends: Ends) -> None:
        self.url = url
        self.key_file = key_file
        self.ends = ends
        self.lags: list[float] = []
        self._probes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Visibility:
        key = (await asyncio.to_thread(self.key_file.read_text)).strip()
        self.http = aiohttp.ClientSession(headers={"authorization": f"Bearer {key}", "prefer": "wait=30"})
        self._sampling = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._sampling.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)
        await self.http.close()

    async def _sample(self) -> None:
        seen: str | None = None
        while True:
            await asyncio.sleep(0.1)
            newest = next(reversed(self.ends.at), None)
            if newest is not None and newest != seen:
                seen = newest
                probe = asyncio.create_task(self._probe(newest, self.ends.at[newest]))
                self._probes.add(probe)
                probe.add_done_callback(self._probes.discard)

    async def _probe(self, job_id: str, ended: float) -> None:
        while time.monotonic() < ended + 60:
            async with self.http.get(f"{self.url}/api/job/detail/{job_id}") as answer:  # the read model alone
                if answer.status == 200 and (await answer.json())["stage"] == "completed":
                    self.lags.append(time.monotonic() - ended)
                    return
            await asyncio.sleep(0.02)
