"""The sampling profiler sees what is on the CPU, and leaves out what waits."""

from __future__ import annotations

import json
import subprocess
import sys
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
    busy = sum(used for name, used in found["ours"].items() if name.startswith("contracts/identity.derived"))
    assert found["cpu_s"] > 0.05 and busy > 0
    assert sum(used for name, used in found["inner"].items() if name.endswith(".wait")) < found["cpu_s"] / 10
    assert sum(found["inner"].values()) <= found["cpu_s"] * 1.001


FORKS = """
import os, sys, time
from pathlib import Path
from contracts import derived
from shared.profile import Sampler
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
sampler = Sampler(Path(sys.argv[1]))
sampler.start()
end = time.monotonic() + 0.5
while time.monotonic() < end:
    derived("a", "b")
sampler.stop()
"""


def test_a_forked_process_sees_its_own_first_thread(tmp_path: Path) -> None:
    # As the local pipeline's services are forked (`cli/local/forkserver.py`); theirs was missing from profiles.
    subprocess.run([sys.executable, "-c", FORKS, str(tmp_path / "profile.json")], check=True, timeout=60)
    found = json.loads((tmp_path / "profile.json").read_text())
    assert sum(used for name, used in found["ours"].items() if name.startswith("contracts/identity.derived")) > 0.05
