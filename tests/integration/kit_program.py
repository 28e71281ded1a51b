"""A worker as a program of its own: `python -m tests.integration.kit_program KAFKA SUFFIX NAME NOTES DRAIN_S ACTIONS`. It notes what happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from stageline_kit import Task, Worker

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
_, kafka, suffix, name, notes, drain_s, actions = sys.argv
worker = Worker(kafka, name, group=f"workers.{suffix}", concurrency=3, drain_s=float(drain_s))


def note(word: str) -> None:
    """Write a line for the test."""
    with Path(notes).open("a") as stream:
        stream.write(f"{word}\n")


@worker.action(f"{suffix}.hold")
async def hold(task: Task) -> dict[str, Any]:
    """Run until the test makes a file."""
    note(f"begun {task.message.lease} {name}")
    while not Path(f"{notes}.{task.message.lease}").exists():
        await asyncio.to_thread(threading.Event().wait, 0.05)
    return {"by": name}


@worker.action(f"{suffix}.kill")
def kill(task: Task) -> None:
    """End the worker, as the kernel does when memory is short."""
    note(f"begun {task.message.lease} {name}")
    os.kill(os.getpid(), signal.SIGKILL)


@worker.action(f"{suffix}.hang")
def hang(task: Task) -> None:
    """Start a process and never end."""
    note(f"child {subprocess.Popen(SLEEPER).pid}")
    threading.Event().wait()


@worker.action(f"{suffix}.isolated", isolation="process")
def isolated(task: Task) -> None:
    """The same in a process."""
    note(f"child {subprocess.Popen(SLEEPER).pid}")
    note(f"child {os.getpid()}")
    threading.Event().wait()


@worker.action(f"{suffix}.large")
def large(task: Task) -> dict[str, Any]:
    """A result of so many bytes."""
    return {"text": "x" * task.config["bytes"]}


worker.actions = {action: act for action, act in worker.actions.items() if action.rpartition(".")[2] in actions.split(",")}
worker._engine.actions = worker.actions
# Not behind a guard: the process of an isolated action imports this module too.
asyncio.run(worker.run())
