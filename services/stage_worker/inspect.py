"""What the command line may read of the worker: whether its sandbox works on this machine. Read only."""

from __future__ import annotations

import subprocess
import sys

from services.stage_worker.adapters.confinement import Limits, confine_process

TIMEOUT_S = 60.0


def network_is_cut() -> bool:
    """True if this machine lets the sandbox cut a document reader off from the network.

    Asks in a process of its own, because confinement cannot be undone. Raises `subprocess.TimeoutExpired` after 60 s.
    """
    check = subprocess.run([sys.executable, "-m", "services.stage_worker.inspect"], capture_output=True, timeout=TIMEOUT_S)
    return check.returncode == 0


if __name__ == "__main__":
    sys.exit(0 if confine_process(Limits()) else 1)
