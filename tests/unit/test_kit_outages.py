"""The kit's worker while Kafka is away: one line for an outage, and an end in time."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, NotCoordinatorForGroupError, TopicAuthorizationFailedError

from cli.local.plan import free_ports
from stageline_kit.closing import close_clients
from stageline_kit.outages import Outages
from tests.eventually import eventually

FETCHER, CLIENT = logging.getLogger("aiokafka.consumer.fetcher"), logging.getLogger("aiokafka")
QUEUE = logging.getLogger("stageline_kit.report_queue")


def lines_of_a_second() -> None:
    """What aiokafka and the kit write while no broker answers."""
    for _ in range(100):
        CLIENT.error("Unable connect to node with id %s: %s", 1, ConnectionRefusedError(111, "refused"))
        CLIENT.error("Unable to update metadata from %s", [1])
        FETCHER.error("Failed fetch messages from %s: %s", 1, NodeNotReadyError("not ready"))
    QUEUE.warning("reports will be sent again", extra={"reason": "KafkaTimeoutError"})


def test_an_outage_is_one_line_and_its_end_another(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    with Outages(lambda: now) as outages:
        for _ in range(3):
            lines_of_a_second()
            outages.answered()  # another broker answers; this one is still away
            now += 1
        assert caplog.messages == ["Kafka does not answer: [Errno 111] refused. It is tried again until it does."]
        now += 5
        outages.answered()
        outages.answered()
        assert caplog.messages[1:] == ["Kafka answers again, after 2 s."]
        lines_of_a_second()
        assert len(caplog.messages) == 3, "the next outage has a line again"
    CLIENT.error("Unable to update metadata from %s", [1])
    assert len(caplog.messages) == 4, "the worker has ended: other programs' lines are their own"


def test_what_is_no_outage_is_logged_as_before(caplog: pytest.LogCaptureFixture) -> None:
    with Outages() as outages:
        FETCHER.error("Failed fetch messages from %s: %s", 1, NotCoordinatorForGroupError())
        outages.note(KafkaConnectionError("gone"))
        FETCHER.error("Failed fetch messages from %s: %s", 1, TopicAuthorizationFailedError("stage.tasks.acme"))
        QUEUE.warning("something else")
    assert len(caplog.messages) == 4 and outages.lasts


async def test_a_client_that_only_reads_asks_whether_the_outage_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now, asked = 100.0, 0

    class Reader:
        answer: Exception | None = KafkaConnectionError("gone")

        async def topics(self) -> set[str]:
            nonlocal asked
            asked += 1
            if self.answer is not None:
                raise self.answer
            return set()

    reader = Reader()
    with Outages(lambda: now) as outages:
        await outages.look(reader)
        assert not asked, "without an outage nothing is asked"
        outages.note(KafkaConnectionError("gone"))
        await outages.look(reader)
        reader.answer, now = None, 104.0
        await outages.look(reader)
    assert asked == 2 and not outages.lasts and caplog.messages[-1] == "Kafka answers again, after 0 s."


async def test_clients_close_in_time_and_look_like_no_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    async def waits() -> None:
        await asyncio.Event().wait()

    async def ends(how: BaseException | None) -> None:
        closed.append(type(how).__name__)
        if how is not None:
            raise how

    began = time.monotonic()
    await close_clients(waits(), ends(asyncio.CancelledError()), ends(KafkaConnectionError("gone")), ends(None), limit_s=0.05)
    assert time.monotonic() - began < 2 and closed == ["CancelledError", "KafkaConnectionError", "NoneType"]
    assert len(caplog.messages) == 2
    with pytest.raises(KeyError):
        await close_clients(ends(KeyError("a bug")))


PROGRAM = """
import asyncio, sys, threading
from stageline_kit import Worker

worker = Worker("127.0.0.1:{port}", "w-1", group="workers.x", drain_s=0.5)
worker.action("acme.work")(print)

async def main():
    asyncio.get_running_loop().call_later(1, block)
    await worker.run()

def block():
    print("blocks", file=sys.stderr, flush=True)
    threading.Event().wait({blocked_s})

asyncio.run(main())
"""


@pytest.mark.parametrize(("blocked_s", "code"), [(0, 0), (60, 1)], ids=["waiting", "blocked"])
async def test_a_signal_ends_a_worker_that_waits_for_its_first_broker(tmp_path: Path, blocked_s: float, code: int) -> None:
    """Also one whose event loop an action blocks: no handler of the loop would ever run."""
    [port] = free_ports(1)
    log = tmp_path / "log"
    with log.open("wb") as out:
        program = subprocess.Popen([sys.executable, "-c", PROGRAM.format(port=port, blocked_s=blocked_s)], stderr=out)
    try:

        async def begun() -> bool:
            assert program.poll() is None, log.read_text()
            return "blocks" in log.read_text()

        await eventually(begun, 20)
        program.terminate()
        began = time.monotonic()
        assert program.wait(10) == code, log.read_text()
        assert time.monotonic() - began < 4
    finally:
        program.kill()
        program.wait()
    lines = [line for line in log.read_text().splitlines() if line != "blocks"]
    assert (
        lines[0].startswith("Kafka does not answer: ")
        and "KAFKA_SECURITY_PROTOCOL" in lines[0]
        and len(lines) == (2 if blocked_s else 1)
    ), lines
    assert not blocked_s or lines[1].startswith("the program has not stopped in 0.5 s and is ended")
