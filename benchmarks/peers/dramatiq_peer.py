"""Dramatiq: each actor sends the next one, on Redis."""

import os
import sys
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

URL = os.environ["PEER_REDIS"]
dramatiq.set_broker(RedisBroker(url=URL))
store = redis.Redis.from_url(URL)


@dramatiq.actor
def stage(job, n, payload):
    if n == 4:
        store.rpush("done", f"{job} {time.time()}")
    else:
        stage.send(job, n + 1, payload)


def submit(job, payload):
    stage.send(job, 0, payload)


if __name__ == "__main__":
    sys.argv = ["dramatiq", "dramatiq_peer", "--processes", "2", "--threads", "8"]
    from dramatiq.cli import main, make_argument_parser

    sys.exit(main(make_argument_parser().parse_args(sys.argv[1:])))
