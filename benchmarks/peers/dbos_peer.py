"""DBOS: a workflow of five steps from a queue, on PostgreSQL."""

import os
import sys
import threading
import time

import redis
from dbos import DBOS, DBOSClient

URL = os.environ["PEER_POSTGRES"]
store = redis.Redis.from_url(os.environ["PEER_REDIS"])


@DBOS.step()
def step(n, payload):
    return n


@DBOS.workflow()
def job(job_id, payload):
    for n in range(5):
        step(n, payload)
    store.rpush("done", f"{job_id} {time.time()}")


_client = []


def submit(job_id, payload):
    if not _client:
        _client.append(DBOSClient(system_database_url=URL))
    _client[0].enqueue({"queue_name": "peer", "workflow_name": "job"}, job_id, payload)


if __name__ == "__main__":
    DBOS(config={"name": "peer", "system_database_url": URL, "executor_id": sys.argv[2] if len(sys.argv) > 2 else "one"})
    DBOS.launch()
    DBOS.register_queue("peer")
    threading.Event().wait()
