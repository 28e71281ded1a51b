"""Runs the broker and one process per service, restarts what dies, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from cli.local.plan import Plan, prepare_data_dir
from shared.embedded.kafka import EmbeddedKafka
from shared.errors import Stop

STOP_TIMEOUT_S = 25.0
READY_TIMEOUT_S = 90.0
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # If the supervisor is killed, its children must not go on without anybody watching them.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One supervised process."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.log = log
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    async def start(self) -> None:
        """Start it, appending its output to its log file."""
        stream = await asyncio.to_thread(self.log.open, "ab")
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, env=self.environment, stdout=stream, stderr=stream, stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=_die_with_parent, start_new_session=True,
            )  # fmt: skip
        finally:
            stream.close()
            # A planted crash is for the first life; the second must get through.
            self.environment.pop("STAGELINE_CRASH_AT", None)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not listen."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def last_words(self) -> str:
        """The last line it logged, for an error message."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1][:400] if lines else "it said nothing"


class Supervisor:
    """One embedded deployment. `say` prints a line for people."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.children: dict[str, Child] = {}
        self.stopping = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []
        self._lock: int | None = None
        self._broker: EmbeddedKafka | None = None

    async def start(self) -> None:
        """Everything up and ready, or nothing: raises `Stop` in one line and leaves no process behind."""
        prepare_data_dir(self.plan.data_dir, self.plan.key_file)
        self._take_lock()
        self.plan.resolve()
        broker = EmbeddedKafka(self.plan.data_dir / "kafka", self.plan.ports["kafka"], self.plan.ports["kafka_controller"])
        await asyncio.to_thread(broker.prepare)
        self._broker = broker
        logs = self.plan.data_dir / "logs"
        self._add("kafka", broker.command, dict(os.environ), logs)
        for name, command in self.plan.processes().items():
            self._add(name, command, self.plan.environment(name), logs)
        try:
            for child in self.children.values():
                await child.start()
            await self._all_ready()
        except BaseException:
            await self.stop()
            raise
        self._watchers = [asyncio.create_task(self._watch(child)) for child in self.children.values()]
        self._note()

    def _add(self, name: str, command: list[str], environment: dict[str, str], logs: Path) -> None:
        self.children[name] = Child(name, command, environment, logs / f"{name}.log")

    def _take_lock(self) -> None:
        self._lock = os.open(self.plan.run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop("already_running", f"a pipeline already runs in {self.plan.data_dir}; see `stageline down`") from None

    async def _all_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            for name in self.plan.processes():
                await self._ready(http, name, deadline)

    async def _ready(self, http: aiohttp.ClientSession, name: str, deadline: float) -> None:
        url = f"http://127.0.0.1:{self.plan.ports[name]}/health/ready"
        reason = "no answer"
        while time.monotonic() < deadline:
            for child in self.children.values():
                if child.process is not None and child.process.returncode is not None:
                    raise Stop("start_failed", f"{child.name} ended with code {child.process.returncode}: {child.last_words()}")
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(url) as response:
                    if response.status == 200:
                        return
                    reason = await response.text()
            await asyncio.sleep(0.1)
        raise Stop("start_failed", f"{name} was not ready within {READY_TIMEOUT_S:.0f} s: {reason[:300]}")

    async def _watch(self, child: Child) -> None:
        delay = 0.1
        while not self.stopping.is_set():
            assert child.process is not None
            started = time.monotonic()
            code = await child.process.wait()
            if self.stopping.is_set():
                return
            delay = 0.1 if time.monotonic() - started > 10 else min(5.0, delay * 2)
            child.restarts += 1
            self.say(f"{child.name} ended with code {code}; restarting (number {child.restarts})")
            await asyncio.sleep(delay)
            await child.start()
            self._note()

    def _note(self) -> None:
        self.plan.write_state({c.name: c.process.pid for c in self.children.values() if c.process is not None})

    async def stop(self) -> None:
        """Services first (they drain), then the broker."""
        self.stopping.set()
        for watcher in self._watchers:
            watcher.cancel()
        services = [c for c in self.children.values() if c.name != "kafka"]
        await asyncio.gather(*(c.stop() for c in services))
        broker = self.children.get("kafka")
        if broker is not None:
            await broker.stop()
            if self._broker is not None and broker.process is not None:
                await asyncio.to_thread(self._broker.ended, broker.process.returncode)
        (self.plan.run_dir / "state.json").unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def run_until_signalled(supervisor: Supervisor, up: Callable[[], Awaitable[None]]) -> None:
    """Start, call `up`, wait for SIGTERM or SIGINT, stop. Raises `Stop` when the start fails."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ended.set)
    starting = asyncio.create_task(supervisor.start())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    await starting
    try:
        await up()
        await waiting
    finally:
        await supervisor.stop()
