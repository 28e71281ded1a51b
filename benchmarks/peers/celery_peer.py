"""Celery: a chain of five tasks on Redis, acknowledged late."""

import os
import time

import redis
from celery import Celery, chain

URL = os.environ["PEER_REDIS"]
app = Celery("peer", broker=URL)
app.conf.update(
    task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=16, broker_connection_retry_on_startup=True
)
store = redis.Redis.from_url(URL)


@app.task(name="stage")
def stage(job, n, payload):
    if n == 4:
        store.rpush("done", f"{job} {time.time()}")


def submit(job, payload):
    chain(*(stage.si(job, n, payload) for n in range(5))).apply_async()


if __name__ == "__main__":
    app.worker_main(["worker", "--concurrency", "2", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"])
