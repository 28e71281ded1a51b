"""Temporal: a workflow of five activities, on its development server (SQLite in memory)."""

import asyncio
import os
import sys
import threading
import time
from datetime import timedelta

import redis
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

ADDRESS = os.environ["PEER_TEMPORAL"]
QUEUE = "peer"


@activity.defn
async def step(n: int, payload: str) -> int:
    return n


@activity.defn
async def end(job_id: str) -> None:
    redis.Redis.from_url(os.environ["PEER_REDIS"]).rpush("done", f"{job_id} {time.time()}")


@workflow.defn
class Job:
    @workflow.run
    async def run(self, job_id: str, payload: str) -> None:
        for n in range(4):
            await workflow.execute_activity(step, args=[n, payload], start_to_close_timeout=timedelta(seconds=30))
        # The fifth step also reports the job's end to the benchmark.
        await workflow.execute_activity(end, job_id, start_to_close_timeout=timedelta(seconds=30))


_loop = asyncio.new_event_loop()
_client = []


def submit(job_id, payload):
    if not _client:
        threading.Thread(target=_loop.run_forever, daemon=True).start()
        _client.append(asyncio.run_coroutine_threadsafe(Client.connect(ADDRESS), _loop).result(30))
    started = _client[0].start_workflow(Job.run, args=[job_id, payload], id=job_id, task_queue=QUEUE)
    asyncio.run_coroutine_threadsafe(started, _loop).result(30)


async def work():
    await Worker(await Client.connect(ADDRESS), task_queue=QUEUE, workflows=[Job], activities=[step, end]).run()


if __name__ == "__main__" and sys.argv[1] == "worker":
    asyncio.run(work())
