"""The plan of a local deployment: ports, processes and environments, fixed before anything starts."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import stat
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import Stop
from shared.kafka.credentials import SERVICE_PREFIX, Credentials
from shared.secret_box import new_box_key
from shared.task_grants import new_task_key
from shared.web.key_format import new_key

if TYPE_CHECKING:
    from shared.kafka.topics import TopicSizes

SERVICES = ("ingest", "session", "job_orchestrator", "stage_worker", "notifier")
OFF = ("0", "false", "no", "off", "f", "n")
"""How a setting says no."""
FOR_OTHERS = 0o077
"""Rights of group and others. Nothing in a data directory has them: it holds keys, documents, and logs with file names."""
SEALING, GRANTING = ("ingest", "stage_worker"), ("ingest", "job_orchestrator")
"""Services that seal or open secrets of tenants: the others do not get the key."""
MIN_FREE_BYTES = 200 << 20
KAFKA_USERS = "kafka-users"
"""Folder of the data directory with the passwords of the Kafka users."""
NICENESS = {"job_orchestrator": 3, "stage_worker": 6}
"""Scheduling priority while all cores are busy: requests come before dispatch, and dispatch before the work itself.
docker-compose.yml states the same as `cpu_shares`."""


@dataclass
class Plan:
    """One embedded deployment in `data_dir`. A port of 0 stands for any free port."""

    data_dir: Path
    port: int = 8080
    kafka_port: int = 29092
    workers: int = 1
    scale: dict[str, int] = field(default_factory=dict)
    """Service → number of processes, 1 by default. More than one of a service with a database needs PostgreSQL."""
    allow_loopback: bool = False
    otlp_endpoint: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def resolve(self) -> None:
        """Choose every port. Raises `Stop` naming the first port that is in use."""
        names = [n for s in ("ingest", "notifier", "session", "job_orchestrator", "stage_worker") for n in self.replicas(s)]
        self._check_scale()
        free = iter(free_ports(len(names) + 2))
        for offset, name in enumerate(names):
            self.ports[name] = next(free) if self.port == 0 else self.port + offset
        self.ports["kafka"] = next(free) if self.kafka_port == 0 else self.kafka_port
        self.ports["kafka_controller"] = next(free) if self.kafka_port == 0 else self.kafka_port + 1
        for name, port in self.ports.items():
            check_port(name, port)

    def replicas(self, service: str) -> list[str]:
        """Names of the processes of a service: `stage_worker`, `stage_worker-2`, …"""
        count = self.scale.get(service, self.workers if service == "stage_worker" else 1)
        return [service if n == 1 else f"{service}-{n}" for n in range(1, count + 1)]

    def _check_scale(self) -> None:
        unknown = self.scale.keys() - set(SERVICES)
        if unknown or any(n < 1 for n in self.scale.values()):
            raise Stop("scale", f"--scale takes SERVICE=N with one of {', '.join(SERVICES)} and N of at least 1")
        several = [s for s, n in self.scale.items() if n > 1 and s != "stage_worker"]
        if several and not os.environ.get("STAGELINE_DATABASE_URL", "").startswith("postgresql"):
            raise Stop("scale", f"several processes of {several[0]} need PostgreSQL: set STAGELINE_DATABASE_URL")

    def processes(self) -> dict[str, list[str]]:
        """Name → command of each service process."""
        names = [n for s in ("session", "job_orchestrator", "stage_worker", "notifier", "ingest") for n in self.replicas(s)]
        return {name: [sys.executable, "-m", f"services.{name.partition('-')[0]}"] for name in names}

    def environment(self, name: str) -> dict[str, str]:
        """Environment of one service process: this process's own, plus the settings of this deployment."""
        service = name.partition("-")[0]
        env = {
            # Without the Kafka user of the shell, which `stageline env` may have set.
            **{k: v for k, v in os.environ.items() if not k.startswith("KAFKA_")},
            **self.credentials.settings(SERVICE_PREFIX + service, self.bootstrap),
            # The supervisor creates the topics. The orchestrator adds those of new actions.
            "STAGELINE_CREATE_TOPICS": "1" if service == "job_orchestrator" else "0",
            "STAGELINE_DATA_DIR": str(self.data_dir.resolve()),
            "STAGELINE_PORT": str(self.ports[name]),
            "STAGELINE_INSTANCE": f"{name}-{socket.gethostname()}",
            "STAGELINE_TASK_PARTITIONS": os.environ.get("STAGELINE_TASK_PARTITIONS", str(self.task_partitions)),
            "STAGELINE_SESSION_TIMEOUT_MS": os.environ.get("STAGELINE_SESSION_TIMEOUT_MS", "4000"),
            "STAGELINE_SANDBOX": os.environ.get("STAGELINE_SANDBOX", "best_effort"),
            "STAGELINE_ADMIN_KEY_FILE": str(self.key_file),
            "STAGELINE_ALLOW_LOOPBACK": "1" if self.allow_loopback else "0",
            "STAGELINE_PUBLIC_URL": os.environ.get("STAGELINE_PUBLIC_URL", self.url),
            "STAGELINE_NOTIFIER_PUBLIC_URL": self._notifier_public_url(),
            "STAGELINE_CONVERSION_NEEDS_KEY": "0" if self.lets_keyless_in else "1",
            **self.interpreter,
        }
        if name.partition("-")[0] in SEALING:
            env["STAGELINE_SECRETS_KEY_FILE"] = os.environ.get("STAGELINE_SECRETS_KEY_FILE", str(self.secrets_key_file))
        if service in GRANTING:
            env["STAGELINE_TASK_KEY_FILE"] = os.environ.get("STAGELINE_TASK_KEY_FILE", str(self.task_key_file))
        if self.otlp_endpoint:
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = self.otlp_endpoint
        return env | self.extra

    @property
    def lets_keyless_in(self) -> bool:
        """True when the Conversion Service's dialect takes callers of this machine without a key, as the vendor's does. By default
        where the gateway listens on the loopback."""
        unset = "0" if os.environ.get("STAGELINE_HOST", "127.0.0.1") in ("127.0.0.1", "::1", "localhost") else "1"
        return os.environ.get("STAGELINE_CONVERSION_NEEDS_KEY", unset).lower() in OFF

    @property
    def bootstrap(self) -> str:
        """Address of the broker."""
        return f"127.0.0.1:{self.ports['kafka']}"

    @property
    def credentials(self) -> Credentials:
        """Passwords of the Kafka users of this deployment."""
        return Credentials(self.data_dir.resolve() / KAFKA_USERS)

    @property
    def sizes(self) -> TopicSizes:
        """Partitions and replicas of new topics."""
        from shared.kafka.topics import TopicSizes

        hot = int(os.environ.get("STAGELINE_PARTITIONS", "6"))
        return TopicSizes(hot, int(os.environ.get("STAGELINE_TASK_PARTITIONS", self.task_partitions)), 1)

    @property
    def task_partitions(self) -> int:
        """Partitions of each task topic: one per worker process, and at least two, so that a worker of one's own can join."""
        return max(2, len(self.replicas("stage_worker")))

    @property
    def interpreter(self) -> dict[str, str]:
        """Environment variables that Python and malloc read at process start."""
        # Few malloc arenas: by default every thread gets its own, which costs memory.
        return {"PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}

    @property
    def run_dir(self) -> Path:
        """Folder of the running deployment's state file and lock."""
        return self.data_dir / "run"

    @property
    def key_file(self) -> Path:
        """File with the generated admin key; mode 0600."""
        return (self.data_dir / "admin.key").resolve()

    @property
    def secrets_key_file(self) -> Path:
        """File with the generated key that seals secrets of tenants; mode 0600."""
        return (self.data_dir / "secrets.key").resolve()

    @property
    def task_key_file(self) -> Path:
        """File with the generated key that signs the addresses in tasks; mode 0600."""
        return (self.data_dir / "task.key").resolve()

    @property
    def url(self) -> str:
        """Base URL of the gateway."""
        return f"http://127.0.0.1:{self.ports['ingest']}"

    def _notifier_public_url(self) -> str:
        # A proxy with an address of its own has both services under one name, as docs/how-to/behind-a-proxy.md says.
        given = (os.environ.get(name) for name in ("STAGELINE_NOTIFIER_PUBLIC_URL", "STAGELINE_PUBLIC_URL"))
        return next((url for url in given if url), self.notifier_url)

    @property
    def notifier_url(self) -> str:
        """Base URL of the notifier."""
        return f"http://127.0.0.1:{self.ports['notifier']}"

    def write_state(self, pids: dict[str, int]) -> None:
        """Write the state file that `stageline down` and all other commands read. Raises `OSError` on a full disk; the file of before stays."""
        state = {
            "supervisor": os.getpid(), "pids": pids, "ports": self.ports, "url": self.url, "notifier_url": self.notifier_url,
            "kafka": self.bootstrap, "key_file": str(self.key_file),
            "plan": {k: str(v) for k, v in asdict(self).items() if k in ("port", "kafka_port", "workers")},
        }  # fmt: skip
        part = self.run_dir / f"state.{secrets.token_hex(4)}"
        try:
            part.write_text(json.dumps(state, indent=1))
            part.replace(self.run_dir / "state.json")
        finally:
            part.unlink(missing_ok=True)


def niceness(name: str) -> int:
    """Niceness of a process, by its name: a service, or a service with a number (`stage_worker-2`)."""
    return NICENESS.get(name.partition("-")[0], 0)


def free_ports(count: int) -> list[int]:
    """Distinct free loopback ports. All are bound before any is released, so that none is returned twice."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]


def check_port(name: str, port: int) -> None:
    """Raises `Stop` when the port is in use."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            hint = "--kafka-port" if name.startswith("kafka") else "--port"
            raise Stop("port_in_use", f"port {port} for {name} is in use; choose another with {hint}") from error


def prepare_data_dir(data_dir: Path, key_file: Path) -> str | None:
    """Create the folders and, once, the admin key and the keys of secrets and of tasks, for the owner alone.

    Returns a warning when others can still read the folder. Raises `Stop` when the disk is full or not writable.
    """
    try:
        for folder in (data_dir, data_dir / "run", data_dir / "logs"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(data_dir).free
        if free < MIN_FREE_BYTES:
            raise Stop("disk_full", f"{data_dir} has {free >> 20} MiB left; at least {MIN_FREE_BYTES >> 20} MiB are needed")
        for path, make in ((key_file, new_key), (data_dir / "secrets.key", new_box_key), (data_dir / "task.key", new_task_key)):
            if not path.exists():
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fd, "w") as stream:
                    stream.write(make() + "\n")
    except OSError as error:
        raise Stop("disk", f"cannot write to {data_dir}: {error.strerror or error}") from error
    open_to_others = [str(path) for path in (data_dir, key_file) if not close_to_others(path)]
    return f"warning: other users can read {' and '.join(open_to_others)}" if open_to_others else None


def close_to_others(path: Path) -> bool:
    """Take the rights of group and others from a file or folder. False where that does not work: it is another user's, or the file
    system keeps no rights."""
    if stat.S_IMODE(path.stat().st_mode) & FOR_OTHERS:
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~FOR_OTHERS)
    return not stat.S_IMODE(path.stat().st_mode) & FOR_OTHERS
