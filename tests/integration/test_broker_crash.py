"""A crashed JVM leaves its crash report in the broker's folder, where an operator finds it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cli.local.plan import free_ports
from shared.embedded.kafka import EmbeddedKafka


async def test_the_report_of_a_crash_lies_in_the_brokers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    port, controller = free_ports(2)
    broker = EmbeddedKafka(tmp_path / "kafka", port, controller)
    await asyncio.to_thread(broker.prepare)
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*broker.command, stdout=null, stderr=null)
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
