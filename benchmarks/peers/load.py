"""Submits jobs to one peer, waits for their ends in Redis, and prints the measurements as JSON. Runs in the peers' environment."""

import importlib
import json
import os
import sys
import time
import uuid

import redis

PAYLOAD = "x" * 450
ROUND_S = 240


def ends(store, wanted, deadline):
    found = {}
    while len(found) < len(wanted) and time.time() < deadline:
        item = store.blpop("done", 5)
        if item is not None:
            name, _, at = item[1].decode().partition(" ")
            if name in wanted:
                found[name] = float(at)
    return found


def main():
    peer, count, rounds, quick = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    submit = importlib.import_module(peer).submit
    store = redis.Redis.from_url(os.environ["PEER_REDIS"], socket_timeout=30)
    warm = {uuid.uuid4().hex for _ in range(20)}
    for job in warm:
        submit(job, PAYLOAD)
    assert len(ends(store, warm, time.time() + 60)) == len(warm), "the peer does not finish its first jobs"
    sent = {}
    begin = time.time()
    for n in range(quick):
        time.sleep(max(0.0, begin + n / 5 - time.time()))
        job = uuid.uuid4().hex
        sent[job] = time.time()
        submit(job, PAYLOAD)
    done = ends(store, sent, time.time() + ROUND_S)
    assert len(done) == len(sent), f"of {len(sent)} jobs at 5 per second {len(done)} ended within {ROUND_S} s"
    rates, ended = [], len(warm) + len(done)
    for _ in range(rounds):
        jobs = {uuid.uuid4().hex for _ in range(count)}
        started = time.time()
        for job in jobs:
            submit(job, PAYLOAD)
        found = ends(store, jobs, time.time() + ROUND_S)
        assert len(found) == len(jobs), f"of {len(jobs)} jobs {len(found)} ended within {ROUND_S} s"
        rates.append(len(found) / (max(found.values()) - started))
        ended += len(found)
    print(json.dumps({"rates": rates, "latencies": sorted(done[j] - sent[j] for j in done), "ended": ended}))


if __name__ == "__main__":
    main()
