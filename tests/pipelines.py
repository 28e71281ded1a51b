"""Running pipelines for tests: one started by the command line, and one whose services restart with other settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.client import Target
from cli.local.plan import KAFKA_USERS, Plan
from cli.local.supervisor import Supervisor
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import ADMIN, Credentials
from tests.command_line import run_command


@dataclass
class Pipeline:
    """A pipeline in `data_dir`, started and stopped through the command line, as a user does."""

    data_dir: Path
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    scheduler_key: str = ""
    """Of the shared pipeline: the key of a tenant that has the schedule `every-minute`."""

    def command(self, *arguments: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run `stageline …` on this pipeline."""
        return run_command([*arguments, "--data-dir", str(self.data_dir)], {**os.environ, **self.environment}, timeout)

    def start(self) -> None:
        """Run `stageline up`; returns when the pipeline is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        out = (self.data_dir / "up.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "up", "--port", "0", "--kafka-port", "0", "--allow-loopback", "--data-dir", str(self.data_dir), *self.options],
            stdout=out, stderr=out, env={**os.environ, **self.environment},
        )  # fmt: skip
        out.close()
        deadline = time.monotonic() + 200
        while not (self.data_dir / "run" / "state.json").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("no start: " + (self.data_dir / "up.log").read_text())
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue

    def stop(self) -> None:
        """Stop it by SIGTERM, as Ctrl-C and `stageline down` do."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(90) == 0
        self.process = None

    @property
    def state(self) -> dict[str, Any]:
        """The running processes: pids, ports, addresses."""
        found: dict[str, Any] = json.loads((self.data_dir / "run" / "state.json").read_text())
        return found

    @property
    def kafka(self) -> str:
        """Bootstrap server."""
        return str(self.state["kafka"])

    @property
    def access(self) -> KafkaAccess:
        """Connection of the super user to the broker."""
        return self.access_of(ADMIN)

    @property
    def credentials(self) -> Credentials:
        """Passwords of the broker's users."""
        return Credentials(self.data_dir / KAFKA_USERS)

    def access_of(self, user: str) -> KafkaAccess:
        """Connection of one user to the broker."""
        return self.credentials.access(user, self.kafka)

    def as_user(self, user: str = ADMIN) -> dict[str, Any]:
        """The user as options of aiokafka and of the kit's clients, beside the addresses."""
        return {name: value for name, value in self.access_of(user).options.items() if name != "bootstrap_servers"}

    def settings(self, *options: str) -> dict[str, str]:
        """What `stageline env` prints: `KAFKA_*` of a program outside."""
        found: dict[str, str] = json.loads(self.command("env", "--format", "json", *options).stdout)
        return found

    def target(self, key: str | None = None) -> Target:
        """The pipeline's address, with the admin key or the given one."""
        state = self.state
        return Target(state["url"], state["notifier_url"], key or Path(state["key_file"]).read_text().strip())


class RestartingSupervisor(Supervisor):
    """A supervisor that can restart the services with other settings, while the broker and the fork server stay."""

    async def restart(self, environment: dict[str, str]) -> None:
        """Stop every service, start it with `environment` added to the plan's, and wait until all are ready."""
        for watcher in self._watchers:
            watcher.cancel()
        services = [child for child in self.children.values() if child.name != "kafka"]
        await asyncio.gather(*(child.stop() for child in services))
        for child in services:
            child.environment = self.plan.environment(child.name) | environment
            await child.start()
        await self._all_ready()
        # New watchers, so that an earlier crash of a service does not delay its next start.
        self._start_watching()
        self._write_state()


@dataclass
class RestartablePipeline(Pipeline):
    """A pipeline under a supervisor in a thread of this process. Tests may break it, and leave it running."""

    said: list[str] = field(default_factory=list)
    """Lines that the supervisor printed since the last start or restart."""

    def start(self) -> None:
        """Start everything; returns when it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="supervisor", daemon=True)
        self._thread.start()
        plan = Plan(self.data_dir, port=0, kafka_port=0, allow_loopback=True, extra=dict(self.environment))
        self._supervisor = RestartingSupervisor(plan, lambda line: self.said.append(line))
        self._run(self._supervisor.start())

    def restart(self, **environment: str) -> None:
        """Restart the services with the start's settings and the given ones; returns when they are ready."""
        self.said = []
        self._run(self._supervisor.restart(environment))

    def stop(self) -> None:
        """Stop everything."""
        self._run(self._supervisor.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(150)
