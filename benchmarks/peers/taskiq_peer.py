"""Taskiq: each task kicks the next one, on Redis streams."""

import asyncio
import os
import sys
import time

import redis
from taskiq_redis import RedisStreamBroker

URL = os.environ["PEER_REDIS"]
broker = RedisStreamBroker(url=URL)
store = redis.Redis.from_url(URL)


@broker.task
async def stage(job: str, n: int, payload: str) -> None:
    if n == 4:
        store.rpush("done", f"{job} {time.time()}")
    else:
        await stage.kiq(job, n + 1, payload)


_loop = asyncio.new_event_loop()
_begun = []


def submit(job, payload):
    if not _begun:
        _loop.run_until_complete(broker.startup())
        _begun.append(True)
    _loop.run_until_complete(stage.kiq(job, 0, payload))


if __name__ == "__main__":
    from taskiq.__main__ import main

    sys.argv = ["taskiq", "worker", "taskiq_peer:broker", "--workers", "2", "--log-level", "ERROR"]
    main()
