"""Which walls stand on this machine: a process of its own puts them up, and tries what it must not be able to do then."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from services.stage_worker.adapters.clean_python import IMPORT, clean_command, clean_environment
from services.stage_worker.adapters.confinement import Limits, confine_process
from services.stage_worker.adapters.walls import kernel

OUTSIDE = "/etc/passwd"
TIMEOUT_S = 60.0
_PROBE = IMPORT + "from services.stage_worker.adapters.probe import main; main()"


def missing_walls() -> dict[str, str]:
    """Each of `WALLS` that this machine lacks, with the reason. Raises `subprocess.TimeoutExpired` after 60 s.

    Asks in a process of its own, because confinement cannot be undone.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            clean_command(_PROBE, folder), env=clean_environment(), capture_output=True, timeout=TIMEOUT_S, start_new_session=True
        )  # fmt: skip
    try:
        found: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        return {"reader": f"it cannot be started (exit code {done.returncode})"}
    return found


def main() -> None:
    """`python -c … PATH FOLDER`: prints the missing walls as JSON."""
    folder = Path(sys.argv[2])
    os.chdir(folder)
    sys.stdout.write(json.dumps(attempts(confine_process(Limits(), folder))))


def attempts(missing: Mapping[str, str]) -> dict[str, str]:
    """`missing`, and each wall that let an attempt pass, with what passed. Ends nothing and changes nothing outside."""
    found = dict(missing)
    tried: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("files", f"{OUTSIDE} could be read", lambda: Path(OUTSIDE).read_bytes()),
        ("files", "the root folder could be listed", lambda: os.listdir("/")),
        ("network", "a socket could be made", lambda: socket.socket().close()),
        ("other_processes", "another process could be signalled", lambda: os.kill(os.getppid(), 0)),
        ("system_calls", "a process could be made", _make_process),
        ("privileges", "the owner of the working folder could be changed", lambda: os.chown(".", -1, -1)),
    )
    for wall, what, attempt in tried:
        try:
            attempt()
        except OSError:
            continue
        found.setdefault(wall, what)
    return found


def _make_process() -> None:
    if kernel.machine() is None:
        return
    made = os.fork()
    if made == 0:
        os._exit(0)
    os.waitpid(made, 0)
