"""Runs the broker and one process per service, restarts processes that die, and stops all in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp

from cli.local.disk_watch import DiskWatch
from cli.local.forked import FORKS, Forked, ForkServer, last_words
from cli.local.former import end_former
from cli.local.jar_fetch import fetch_jars
from cli.local.kernel import end_with_parent
from cli.local.plan import FOR_OTHERS, SERVICES, Plan, niceness, prepare_data_dir
from cli.progress import progress
from shared.embedded.broker_security import BrokerSecurity
from shared.embedded.kafka import EmbeddedKafka
from shared.errors import Stop

STOP_TIMEOUT_S = 25.0
READY_TIMEOUT_S = 90.0
PRELOADED = [f"services.{service}.app" for service in SERVICES] + ["uvloop"]


class Child:
    """One supervised process. Services are forked by `forks` when it is given; other commands are executed."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path, forks: ForkServer | None) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.log = log
        self.process: asyncio.subprocess.Process | Forked | None = None
        self.restarts = 0
        self._forks = forks

    async def start(self) -> None:
        """Start the process. Its output is appended to its log file."""
        try:
            if self._forks is not None and self.command[:2] == [sys.executable, "-m"]:
                self.process = await self._forks.fork(self.command[2], self.environment, self.log, niceness(self.name))
            else:
                self.process = await self._execute()
        finally:
            # A crash point applies to the first start only, so that the restart succeeds.
            self.environment.pop("STAGELINE_CRASH_AT", None)

    async def _execute(self) -> asyncio.subprocess.Process:
        stream = await asyncio.to_thread(self.log.open, "ab")
        with stream:
            return await asyncio.create_subprocess_exec(
                *self.command, env=self.environment, stdout=stream, stderr=stream, stdin=asyncio.subprocess.DEVNULL,
                preexec_fn=partial(end_with_parent, os.getpid()), start_new_session=True, umask=FOR_OTHERS,
            )  # fmt: skip

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after `STOP_TIMEOUT_S`."""
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


class Supervisor:
    """One embedded deployment. `say` prints a line for the user."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self._print = say
        self.disk = DiskWatch(plan.data_dir, self.say)
        self.children: dict[str, Child] = {}
        self.stopping = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []
        self._lock: int | None = None
        self._broker: EmbeddedKafka | None = None
        self._setting_up: asyncio.Task[None] | None = None
        self._forks: ForkServer | None = None

    def say(self, line: str) -> None:
        """Print a line for the user. A full disk or a closed pipe does not end the supervisor: the line is lost."""
        with contextlib.suppress(OSError):
            self._print(line)

    async def start(self) -> None:
        """Start everything and wait until it is ready. Raises `Stop` when anything fails; then no process is left."""
        warning = prepare_data_dir(self.plan.data_dir, self.plan.key_file)
        if warning:
            self.say(warning)
        self._take_lock()
        await end_former(self.plan.data_dir, self.say)
        self.plan.resolve()
        try:
            await self._start_processes()
            await self._all_ready()
        except BaseException:
            await self.stop()
            raise
        self._start_watching()
        self._write_state()

    def _start_watching(self) -> None:
        self._watchers = [asyncio.create_task(self._watch(child)) for child in self.children.values()]
        self._watchers.append(asyncio.create_task(self.disk.run()))
        self._watchers.append(asyncio.create_task(self._keep_topics()))

    async def _keep_topics(self) -> None:
        from cli.local.broker_setup import keep_topics

        assert self._broker is not None and self._broker.security is not None
        await keep_topics(self._broker.security.admin(self.plan.bootstrap), self.plan.sizes, self.say)

    async def _start_processes(self) -> None:
        logs = self.plan.data_dir / "logs"
        if FORKS:
            self._forks = ForkServer(PRELOADED, {**os.environ, **self.plan.interpreter}, logs / "forkserver.log")
            await self._forks.start()
        # Imported here, because the other commands need no Kafka client.
        from cli.local.broker_setup import USERS, fingerprint, set_up_embedded

        folder, ports = self.plan.data_dir / "kafka", self.plan.ports
        security = BrokerSecurity(folder, self.plan.credentials, USERS)
        broker = EmbeddedKafka(folder, ports["kafka"], ports["kafka_controller"], security=security)
        await fetch_jars()
        await asyncio.to_thread(broker.prepare)
        self._broker = broker
        self._add("kafka", broker.command, dict(os.environ), logs)
        for name, command in self.plan.processes().items():
            self._add(name, command, self.plan.environment(name), logs)
        await self.children["kafka"].start()
        self._setting_up = asyncio.create_task(set_up_embedded(security, self.plan.bootstrap, self.plan.sizes))
        if security.settled != fingerprint(self.plan.sizes):
            # A first start, or an upgrade: services without rights would end.
            await self._set_up()
        for child in self.children.values():
            if child.process is None:
                await child.start()

    async def _set_up(self) -> None:
        """Wait for the broker's users, topics and rights. Raises `Stop` when the broker ends before."""
        broker = self.children["kafka"]
        assert broker.process is not None and self._setting_up is not None
        ended = asyncio.create_task(broker.process.wait())
        await asyncio.wait({ended, self._setting_up}, return_when=asyncio.FIRST_COMPLETED)
        if not self._setting_up.done():
            self._setting_up.cancel()
            raise Stop("start_failed", f"kafka ended with code {ended.result()}: {last_words(broker.log)}")
        ended.cancel()
        self._setting_up.result()

    def _add(self, name: str, command: list[str], environment: dict[str, str], logs: Path) -> None:
        self.children[name] = Child(name, command, environment, logs / f"{name}.log", self._forks)

    def _take_lock(self) -> None:
        self._lock = os.open(self.plan.run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop("already_running", f"a pipeline already runs in {self.plan.data_dir}; see `stageline down`") from None

    async def _all_ready(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            names = self.plan.processes()
            with progress("ready:", "services") as report:
                for number, name in enumerate(names):
                    report(number, len(names))
                    # Counted from the last process that became ready: many replicas on a busy machine take longer, but they go on.
                    await self._ready(http, name, time.monotonic() + READY_TIMEOUT_S)
        await self._set_up()

    async def _ready(self, http: aiohttp.ClientSession, name: str, deadline: float) -> None:
        url = f"http://127.0.0.1:{self.plan.ports[name]}/health/ready"
        reason = "no answer"
        while time.monotonic() < deadline:
            for child in self.children.values():
                if child.process is not None and child.process.returncode is not None:
                    raise Stop(
                        "start_failed", f"{child.name} ended with code {child.process.returncode}: {last_words(child.log)}"
                    )
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
            if child.name == "kafka":
                # It would end again at once. The services wait for it, and keep what they have.
                await self.disk.room(child.name)
            try:
                await child.start()
            except (OSError, Stop) as error:
                self.say(f"{child.name} does not start: {error}")
            self._write_state()

    def pids(self) -> dict[str, int]:
        """Name → process id of every running process, including the fork server."""
        forks = {} if self._forks is None or self._forks.pid is None else {"forkserver": self._forks.pid}
        return {c.name: c.process.pid for c in self.children.values() if c.process is not None} | forks

    def _write_state(self) -> None:
        try:
            self.plan.write_state(self.pids())
        except OSError as error:
            self.say(f"the state of the processes cannot be written: {error.strerror or error}")

    async def stop(self) -> None:
        """Stop the services, which drain, and then the broker."""
        self.stopping.set()
        if self._setting_up is not None:
            self._setting_up.cancel()
            await asyncio.gather(self._setting_up, return_exceptions=True)
        for watcher in self._watchers:
            watcher.cancel()
        services = [c for c in self.children.values() if c.name != "kafka"]
        await asyncio.gather(*(c.stop() for c in services))
        broker = self.children.get("kafka")
        if broker is not None:
            await broker.stop()
            if self._broker is not None and broker.process is not None:
                await asyncio.to_thread(self._broker.ended, broker.process.returncode)
        if self._forks is not None:
            await self._forks.stop()
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
