"""An action in a process of its own, which can be killed: `@worker.action(name, isolation="process")`."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from pydantic_core import from_json, to_json

from contracts import StageTask
from stageline_kit.outcomes import Failed, Outcome, Queued, Skipped, TryAgain
from stageline_kit.task import Task, with_outputs

NAME = "stageline-action"
"""Name of these processes. They import the program's main module, in which `Worker.run` then does nothing."""
PROGRESS_EVERY_S = 0.05
MAX_MESSAGE_BYTES = 64 << 20
"""Largest message of an action's process. A result that fits into a record is far smaller."""
KINDS: dict[str, type[Outcome]] = {kind.__name__: kind for kind in (Failed, TryAgain, Skipped)}
STATUS_OF_NOTHING = "The process of the action ended without a result (exit code {}): it was killed, or it crashed."


class ActionFault(Exception):
    """An exception of an action in its own process. Its text names the type."""


def in_action_process() -> bool:
    """True in a process that runs one action for a worker."""
    return multiprocessing.current_process().name == NAME


class IsolatedAction:
    """Runs `function` in a new process per task. The function must be found by its module and name. Raises `ValueError`."""

    def __init__(self, function: Callable[[Task], Any]) -> None:
        if "<" in getattr(function, "__qualname__", "<object>"):
            raise ValueError(f"{function!r} cannot run in a process of its own: define it at the top of a module")
        self.function = function

    def start(self, task: Task) -> ActionProcess:
        """A process for `task`. Nothing runs before `ActionProcess.run`."""
        return ActionProcess(self.function, task)


class ActionProcess:
    """One task in a process. `run` blocks, so call it in a thread; `kill` may be called in any thread."""

    def __init__(self, function: Callable[[Task], Any], task: Task) -> None:
        self.task = task
        self._function = function
        self._process: Any = None
        self._killed = self._ended = False
        self._lock = threading.Lock()

    def run(self, task: Task) -> Any:
        """Return or raise what the action does. Raises `TryAgain` with the code `crashed` when its process ended without a result."""
        # A server that is forked from nothing: the worker's own threads and connections are in no action's process.
        kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(kind)
        context.set_forkserver_preload(["stageline_kit"])  # the program's own modules are imported by each process
        ours, theirs = context.Pipe(duplex=False)
        with ours:
            with theirs, self._lock:
                if self._killed:
                    return None
                facts = (theirs, self._function, task.message.to_json(), task.traceparent)
                self._process = context.Process(target=_act, args=facts, name=NAME)
                self._process.start()
            kind, value = _listen(ours, task)
            self._process.join()
            self._ended = True
        return self._end(kind, value)

    def kill(self) -> None:
        """End the process, and every process that it has started."""
        with self._lock:
            self._killed = True
            if self._process is None or self._ended:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def _end(self, kind: str, value: Any) -> Any:
        match kind:
            case "result":
                return value
            case "queued":
                raise Queued(*value)
            case "fault":
                raise ActionFault(value)
            case "nothing":
                raise TryAgain("crashed", STATUS_OF_NOTHING.format(self._process.exitcode))
        raise KINDS[kind](*value)


def _listen(channel: Connection, task: Task) -> tuple[str, Any]:
    """Take progress until the action's end, which is returned."""
    while True:
        try:
            # JSON, never a pickle: a document that took over the process must not reach the worker.
            kind, value = from_json(channel.recv_bytes(MAX_MESSAGE_BYTES))
        except (EOFError, OSError, ValueError, TypeError):
            return "nothing", None
        if kind != "progress":
            return kind, value
        task._progress = (value[0], value[1])


def _act(channel: Connection, function: Callable[[Task], Any], body: bytes, traceparent: str | None) -> NoReturn:
    """Run one task, send its end, and end this process with all that it has started."""
    os.setsid()  # a group of its own, so that a kill reaches the processes that the action starts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = Task(StageTask.read(body), traceparent, _on_progress=_sender(channel))
    end = _outcome_of(function, task)
    try:
        channel.send_bytes(to_json(end))
    except (ValueError, RecursionError) as error:
        channel.send_bytes(to_json(("fault", f"{type(error).__name__}: the result is no JSON: {error}")))
    channel.close()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _outcome_of(function: Callable[[Task], Any], task: Task) -> tuple[str, Any]:
    try:
        result = function(task)
        return "result", with_outputs(task, asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result)
    except Queued as outcome:
        return "queued", (outcome.retry_in, _plain(outcome.code), _plain(str(outcome)))
    except Outcome as outcome:
        kind = next((name for name, kind in KINDS.items() if isinstance(outcome, kind)), "TryAgain")
        return kind, (_plain(outcome.code), _plain(str(outcome)))
    except BaseException as error:  # noqa: BLE001 - a fault of an action is its task's result, `sys.exit()` included
        return "fault", _plain(f"{type(error).__name__}: {error}")


def _plain(text: str | None) -> str | None:
    """`text` with U+FFFD for lone surrogates, which JSON cannot carry."""
    return text and text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _awaited(result: Any) -> Any:
    return await result


def _sender(channel: Connection) -> Callable[[int, int | None], None]:
    last = 0.0

    def send(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S or done == total:
            last = now
            channel.send_bytes(to_json(("progress", (done, total))))

    return send


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.killpg(0, signal.SIGKILL)
