"""Actions that run in processes of their own. They are found by module and name, so they stand in a module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from stageline_kit import Failed, Queued, Task, Worker

worker = Worker("nowhere:1", "w-1")
SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@worker.action("own.process", isolation="process")
def own_process(task: Task) -> dict[str, Any]:
    """Where it runs."""
    task.progress(0.5)
    return {"pid": os.getpid(), "job": task.job_id, "config": task.config}


@worker.action("own.hang", isolation="process")
def hang(task: Task) -> None:
    """Start a process, note both ids, and never end."""
    child = subprocess.Popen(SLEEPER)
    Path(task.config["note"]).write_text(f"{os.getpid()} {child.pid}")
    threading.Event().wait()


@worker.action("own.dies", isolation="process")
def dies(task: Task) -> None:
    """End the process as the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@worker.action("own.raises", isolation="process")
async def raises(task: Task) -> Any:
    """Raise what the configuration says."""
    raise {"ko": Failed("bad", "is bad"), "wait": Queued(7.5), "bug": KeyError("k"), "exit": SystemExit(3)}[task.config["how"]]


@worker.action("own.no_pickle", isolation="process")
def no_pickle(task: Task) -> Any:
    """A result that no pipe can carry."""
    return {"lock": threading.Lock()}


class Trap:
    """Creates a file where it is unpickled."""

    def __init__(self, note: str) -> None:
        self.note = note

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.note, "w")


@worker.action("own.trap", isolation="process")
def trap(task: Task) -> dict[str, Any]:
    """Return what does harm to a reader of pickles."""
    return {"trap": Trap(task.config["note"])}


@worker.action("own.odd", isolation="process")
def odd(task: Task) -> None:
    """Fail with a text that is no Unicode."""
    raise Failed("odd", "a\ud800b")
