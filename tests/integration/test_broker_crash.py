"""A crashed JVM leaves its crash report in the broker's folder; a killed broker is back soon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from cli.local.plan import free_ports
from shared.embedded.kafka import EmbeddedKafka
from tests.eventually import eventually
from tests.integration.test_fetching import topic_of

DEVNULL = asyncio.subprocess.DEVNULL


async def test_the_report_of_a_crash_lies_in_the_brokers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    port, controller = free_ports(2)
    broker = EmbeddedKafka(tmp_path / "kafka", port, controller)
    await asyncio.to_thread(broker.prepare)
    process = await asyncio.create_subprocess_exec(*broker.command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        async with asyncio.timeout(60):
            while not (tmp_path / "kafka" / "data" / "__cluster_metadata-0").exists():
                await asyncio.wait([asyncio.create_task(process.wait())], timeout=0.1)
                assert process.returncode is None, "the broker ended before the test could crash it"
            os.kill(process.pid, signal.SIGSEGV)
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = tmp_path / "kafka" / f"hs_err_pid{process.pid}.log"
    assert "SIGSEGV" in report.read_text(errors="replace")
    assert list(elsewhere.glob("hs_err*")) == []


@pytest.mark.slow
async def test_a_killed_broker_serves_again_within_seconds_of_its_start(tmp_path: Path) -> None:
    """The controller lets a broker back in when the session of its killed predecessor is over."""
    port, controller = free_ports(2)
    broker = EmbeddedKafka(tmp_path / "kafka", port, controller)
    await asyncio.to_thread(broker.prepare)
    topic = ""
    for killed in (True, False):
        process = await asyncio.create_subprocess_exec(*broker.command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            await eventually(lambda: accepts(controller), 90)
            started = time.monotonic()
            await eventually(lambda: accepts(port), 60)
            topic = topic or await topic_of(broker.bootstrap)
            async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
                await producer.send_and_wait(topic, b"x")
            took = time.monotonic() - started
        finally:
            process.kill() if killed else process.terminate()
            await process.wait()
    assert took < 15


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
