"""Many requests at once: overload is queued and said as overload, and what one caller holds is limited."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest

from cli.client import Client
from shared import clock
from tests.conftest import Pipeline
from tests.e2e.outside import submit
from tests.e2e.test_waiting import known
from tests.eventually import eventually

pytestmark = pytest.mark.kafka
AT_ONCE = 256


async def test_as_many_jobs_as_requests_at_once_and_no_outage_is_said(client: Client) -> None:
    keys = [clock.new_root() for _ in range(AT_ONCE)]
    headers = {"authorization": f"Bearer {client.target.key}"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=100)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as http:

        async def post(key: str) -> tuple[int, str]:
            body = {"workflow": "noop-five", "metadata": {"key": key}}
            async with http.post(f"{client.target.url}/v1/jobs", json=body, headers={"idempotency-key": key}) as answer:
                return answer.status, (await answer.json()).get("job_id", await answer.text())

        first = await asyncio.gather(*(post(key) for key in keys))
        assert Counter(status for status, _ in first) == {201: AT_ONCE}, [text for status, text in first if status != 201][:3]
        again = await asyncio.gather(*(post(key) for key in keys[:16]))
    assert len({job for _, job in first}) == AT_ONCE
    assert again == first[:16], "the same key stands for the same job"


async def test_waits_are_counted_and_a_caller_that_left_gives_its_place_back(pipeline: Pipeline, client: Client) -> None:
    job_id = await submit(pipeline, "test-slow")  # no worker takes this action
    await eventually(lambda: known(client, job_id))
    # A key of its own, so that no other test is refused.
    made = await client.call("POST", "/v1/keys", json={"user_name": "waiter", "role": "producer"})
    url = f"{client.target.url}/v1/jobs/{job_id}"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"authorization": f"Bearer {made['key']}"}
    ) as http:

        async def ask(seconds: int) -> tuple[int, str | None]:
            async with http.get(url, headers={"prefer": f"wait={seconds}"}) as answer:
                await answer.read()
                return answer.status, answer.headers.get("retry-after")

        waiting = [asyncio.create_task(ask(60)) for _ in range(110)]

        async def ten_are_answered() -> bool:
            return sum(task.done() for task in waiting) == 10

        await eventually(ten_are_answered)
        assert {task.result() for task in waiting if task.done()} == {(429, "5")}
        async with client.http.get(url) as answer:
            assert answer.status == 200, "without a wait, and with another key, the answer comes at once"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

        async def free() -> bool:
            return (await ask(1))[0] == 200

        await eventually(free)
    await client.call("POST", f"/api/job/cancel/{job_id}")
