"""The sampling profiler sees what is on the CPU, and leaves out what waits."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from contracts import derived
from shared.profile import Sampler


def test_busy_functions_are_counted_and_waiting_ones_are_not(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path / "profile.json")
    stop = threading.Event()
    waiting = threading.Thread(target=stop.wait)
    waiting.start()
    sampler.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        derived("a", "b")
    sampler.stop()
    stop.set()
    waiting.join()
    found = json.loads((tmp_path / "profile.json").read_text())
    assert found["samples"] >= 10 and any(name.startswith("contracts/identity.derived") for name in found["ours"])
    assert not any(name.endswith(".wait") for name in found["inner"])
