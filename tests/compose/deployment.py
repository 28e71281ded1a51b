"""One `docker compose` project of the repository's own file, with a name and ports of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("session", "job_orchestrator", "stage_worker", "notifier", "ingest")


def inspected(container: str, form: str) -> str:
    """Output of `docker inspect` for a container, in the given format."""
    return subprocess.run(["docker", "inspect", "-f", form, container], capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Compose:
    """A compose project. `environment` holds the settings of its `.env`."""

    project: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("STAGELINE_PORT", "STAGELINE_NOTIFIER_PORT", "KAFKA_PORT", "KAFKA_PORT_2", "KAFKA_PORT_3"):
            self.environment.setdefault(name, str(free_port()))

    def __call__(self, *arguments: str, timeout: float = 300) -> str:
        """Output of `docker compose …`. Fails with its output if the command fails."""
        command = ["docker", "compose", "-p", self.project, "-f", str(ROOT / "docker-compose.yml"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **self.environment})
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    @property
    def url(self) -> str:
        """The gateway's URL on this machine."""
        return f"http://127.0.0.1:{self.environment['STAGELINE_PORT']}"

    @property
    def notifier_url(self) -> str:
        """The notifier's URL on this machine."""
        return f"http://127.0.0.1:{self.environment['STAGELINE_NOTIFIER_PORT']}"

    @property
    def kafka(self) -> str:
        """The broker's address on this machine."""
        return f"127.0.0.1:{self.environment['KAFKA_PORT']}"

    def key(self) -> str:
        """The admin key, read with the README's command."""
        return self("exec", "-T", "ingest", "cat", "/keys/admin").strip()

    def kafka_settings(self, user: str) -> dict[str, str]:
        """`KAFKA_*` of a program on this machine, by the deployment guide's command."""
        lines = self("run", "--rm", "kafka-setup", "env", user).splitlines()
        pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
        return {name: value for name, _, value in pairs}

    def client_environment(self) -> dict[str, str]:
        """Environment of `stageline` on this machine."""
        return {"STAGELINE_URL": self.url, "STAGELINE_NOTIFIER_URL": self.notifier_url, "STAGELINE_KEY": self.key()}

    def containers(self, service: str) -> list[str]:
        """Ids of the running containers of a service."""
        return self("ps", "-q", service).split()

    def crash(self, service: str) -> Callable[[], bool]:
        """SIGKILL the main process of one container, as the kernel would; Docker's restart policy is what brings it back.

        Returns a function that is true once the container has restarted and is healthy. Docker calls the dead one healthy for some seconds.
        """
        container = self.containers(service)[-1]
        before = inspected(container, "{{.State.StartedAt}}")
        os.kill(int(inspected(container, "{{.State.Pid}}")), signal.SIGKILL)

        def back() -> bool:
            started, health = inspected(container, "{{.State.StartedAt}} {{.State.Health.Status}}").split()
            return started != before and health == "healthy"

        return back

    def state(self) -> str:
        """The containers and the last log lines of the services, for the message of a failed test."""
        return self("ps", "-a") + self("logs", "--no-color", "--tail", "15", *SERVICES)

    def sql(self, query: str) -> list[list[str]]:
        """Rows of a query, as text."""
        out = self("exec", "-T", "postgres", "psql", "-U", "stageline", "-d", "stageline", "-At", "-F", "\t", "-c", query)
        return [line.split("\t") for line in out.splitlines() if line]

    def network(self) -> str:
        """Address range of the project's network."""
        out = subprocess.run(
            ["docker", "network", "inspect", f"{self.project}_default"], capture_output=True, text=True, check=True
        ).stdout
        return str(json.loads(out)[0]["IPAM"]["Config"][0]["Subnet"])
