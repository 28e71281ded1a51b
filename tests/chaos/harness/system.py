"""The running pipeline of a chaos run, started as a user starts it, with its database and its own small file system."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from shared.embedded.postgres import UNPRIVILEGED, EmbeddedPostgres
from stageline_kit.connection import kafka_options
from tests.chaos.harness.plan import SERVICES, Parameters
from tests.eventually import eventually
from tests.pipelines import Pipeline
from tests.servers import free_port

WEBHOOK_SCHEDULE = [0, 1, 2, 2, 4, 4, *[8] * 40]
"""Seconds before each attempt: short, so that a receiver that is well again gets everything during the quiet period."""
WORKFLOWS = Path(__file__).parent / "workflows"
SMALL_DISK_MIB = 1500


class Database:
    """The embedded PostgreSQL server. It can be killed and started again."""

    def __init__(self) -> None:
        self.server = EmbeddedPostgres(free_port())
        self.server.start()
        assert self.server.process is not None
        self.url = self.server.url.replace("+asyncpg", "")

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self.server.process is not None
        return self.server.process.pid

    def kill(self) -> None:
        """SIGKILL of the postmaster; its children notice and end."""
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.wait()

    async def start_again(self) -> None:
        """Start on the same data; returns when connections are accepted, after the recovery."""
        old = self.server.process
        assert old is not None
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            as_user = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}

        async def accepts() -> bool:
            process = self.server.process
            if process is None or process.poll() is not None:
                # The children of the killed server may still hold its shared memory: then it ends at once, and is tried again.
                with self.server.folder.with_suffix(".log").open("ab") as out:
                    self.server.process = subprocess.Popen(old.args, stdout=out, stderr=out, cwd=self.server.folder, **as_user)
                return False
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
                writer.close()
                return True
            return False

        await eventually(accepts, 60, 0.2)


class System:
    """One deployment under test: processes by name, addresses, and Kafka settings of a program outside."""

    def __init__(self, folder: Path, parameters: Parameters) -> None:
        self.parameters = parameters
        self.folder = folder
        self.database = Database() if parameters.store == "postgres" else None
        environment = {
            "STAGELINE_WORKFLOWS": str(WORKFLOWS), "STAGELINE_TEST_ACTIONS": "1", "STAGELINE_REQUESTS_PER_MINUTE": "100000000",
            "STAGELINE_WEBHOOK_SCHEDULE": json.dumps(WEBHOOK_SCHEDULE), "STAGELINE_WEBHOOK_TIMEOUT_S": "5",
            "STAGELINE_CONVERSION_MAX_JOBS": "1000000",
        }  # fmt: skip
        options: list[str] = []
        if self.database is not None:
            environment["STAGELINE_DATABASE_URL"] = self.database.url
            options = [o for s in SERVICES for o in ("--scale", f"{s}={parameters.replicas}")]
        # The broker's topics know the test's action only if the command line's own process has the variable.
        self.pipeline = Pipeline(folder / "data", options, environment)
        self.kafka: dict[str, str] = {}

    async def start(self) -> None:
        """Start everything; returns when it is ready."""
        if self.parameters.small_disk:
            self.pipeline.data_dir.mkdir(parents=True)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m,mode=0700", "chaos", str(self.pipeline.data_dir)]
            await asyncio.to_thread(subprocess.run, mount, check=True)
        await asyncio.to_thread(self.pipeline.start)
        self.kafka = await asyncio.to_thread(self.pipeline.settings, "--role", "admin")

    async def stop(self) -> None:
        """Stop everything that was started."""
        try:
            await asyncio.to_thread(self.pipeline.stop)
        finally:
            if self.pipeline.process is not None and self.pipeline.process.poll() is None:
                self.pipeline.process.kill()
            if self.database is not None:
                await asyncio.to_thread(self.database.server.stop)
            if self.parameters.small_disk:
                await asyncio.to_thread(subprocess.run, ["umount", "-l", str(self.pipeline.data_dir)])

    def ended(self) -> list[str]:
        """What must not end, and has: `stageline up` itself."""
        code = None if self.pipeline.process is None else self.pipeline.process.poll()
        if code is None:
            return []
        last = (self.pipeline.data_dir / "up.log").read_text(errors="replace").strip().splitlines()[-1:]
        return [f"`stageline up` ended with code {code}: {' '.join(last)}"]

    @property
    def objects(self) -> Path:
        """Folder of the object store."""
        return self.pipeline.data_dir / "objects"

    @property
    def key(self) -> str:
        """The admin key."""
        return Path(self.pipeline.state["key_file"]).read_text().strip()

    def pid(self, name: str) -> int:
        """Process id of a process by its name, as it is now."""
        return int(self.pipeline.state["pids"][name]) if name != "postgres" else self._postgres.pid

    @property
    def _postgres(self) -> Database:
        assert self.database is not None
        return self.database

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process; returns its id. Raises `ProcessLookupError` when it is not there."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def urls(self, service: str) -> list[str]:
        """Base URLs of all processes of a service."""
        ports = self.pipeline.state["ports"]
        return [f"http://127.0.0.1:{port}" for name, port in sorted(ports.items()) if name.partition("-")[0] == service]

    @property
    def kafka_options(self) -> dict[str, Any]:
        """Options for a client of aiokafka or the kit."""
        return kafka_options(environment=self.kafka)

    async def processes(self) -> dict[str, int]:
        """Name → id of every process of the deployment that can be measured."""
        pids = {k: v for k, v in self.pipeline.state["pids"].items() if k != "forkserver"}
        return pids | ({"postgres": self.database.pid} if self.database is not None else {})


@contextlib.asynccontextmanager
async def running(folder: Path, parameters: Parameters) -> AsyncIterator[System]:
    """A started deployment, stopped at the end."""
    system = System(folder, parameters)
    try:
        await system.start()
        yield system
    finally:
        await system.stop()


async def passed(seconds: float, unless: asyncio.Event | None = None) -> bool:
    """Wait until the seconds have passed, or until the event is set; True when it is set. Part of the load's clock, no wait of a test."""
    if seconds <= 0:
        return unless is not None and unless.is_set()
    try:
        await asyncio.wait_for((unless or asyncio.Event()).wait(), seconds)
    except TimeoutError:
        return False
    return True


def now() -> float:
    """Unix time, as the topics and logs have it."""
    return time.time()
