"""Fixtures of all tiers: one running pipeline per session, on real Kafka, as real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cli.client import Client, Target
from cli.local.otlp_receiver import OtlpReceiver
from shared.kafka.connection import KafkaAccess
from tests.servers import KAFKA_IMAGE, POSTGRES_IMAGE, choice, kafka, postgres

settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci")
# A broker of the tests lives for half a minute, too short for the JIT's second compiler to pay.
# without).
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
SAMPLES = Path(__file__).parents[1] / "samples" / "documents"


@dataclass
class Pipeline:
    """A pipeline in `data_dir`, started and stopped through the command line, as a user does."""

    data_dir: Path
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str, timeout: float = 100, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `stageline …` on this pipeline."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments, "--data-dir", str(self.data_dir)], capture_output=True, text=True,
            timeout=timeout, check=check, env={**os.environ, **self.environment},
        )  # fmt: skip

    def start(self) -> None:
        """Run `stageline up`; returns when the pipeline is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        out = (self.data_dir / "up.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "up", "--port", "0", "--kafka-port", "0", "--allow-loopback", "--data-dir", str(self.data_dir), *self.options],
            stdout=out, stderr=out, env={**os.environ, **self.environment},
        )  # fmt: skip
        out.close()
        deadline = time.monotonic() + 120
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
        """Connection of Stageline's own clients to the broker."""
        return KafkaAccess(bootstrap_servers=self.kafka)

    def target(self, key: str | None = None) -> Target:
        """The pipeline's address, with the admin key or the given one."""
        state = self.state
        return Target(state["url"], state["notifier_url"], key or Path(state["key_file"]).read_text().strip())


def pytest_report_header() -> list[str]:
    """Print which servers this run uses."""
    return [f"postgresql: {choice(POSTGRES_IMAGE)}", f"kafka of tests/integration: {choice(KAFKA_IMAGE)}"]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for the whole run. Each test creates its own schema or database in it."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    """A Kafka broker for the integration tests. Each test uses its own ids in it."""
    with kafka() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
async def otlp() -> AsyncIterator[OtlpReceiver]:
    """A local OTLP receiver to which the shared pipeline reports."""
    receiver = OtlpReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture(scope="session")
async def pipeline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, otlp: OtlpReceiver
) -> AsyncIterator[Pipeline]:
    """The shared pipeline. Tests use their own jobs and break nothing. `STAGELINE_TEST_STORE=postgresql` runs it on PostgreSQL."""
    workflows = tmp_path_factory.mktemp("workflows")
    for path in (Path(__file__).parent / "workflows").glob("*.yaml"):
        (workflows / path.name).write_text(path.read_text())
    containers = tmp_path_factory.mktemp("settings") / "containers.json"
    samples = {"source": "local", "url": SAMPLES.as_uri(), "tenants": ["default"]}
    containers.write_text(json.dumps({"samples": samples, "closed": {**samples, "tenants": []}}))
    watched = containers.with_name("watched.json")
    watched.write_text(json.dumps({"scans": {"path": str(containers.parent / "scans")}}))
    environment = {
        "STAGELINE_CONTAINERS_FILE": str(containers),
        "STAGELINE_WATCHED_FOLDERS_FILE": str(watched),
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "STAGELINE_WORKFLOWS": str(workflows),
        "STAGELINE_WEBHOOK_SCHEDULE": "[0, 0.2, 0.2, 0.2]",
        "STAGELINE_MAX_FILE_BYTES": "2000000",
        "STAGELINE_CONVERSION_MAX_JOBS": "100",
    }
    if os.environ.get("STAGELINE_TEST_STORE") == "postgresql":
        environment["STAGELINE_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    running = Pipeline(tmp_path_factory.mktemp("pipeline"), ["--otlp", otlp.endpoint], environment)
    running.start()
    yield running
    # In a thread: stopping services send their last metrics to the receiver, which runs in this loop.
    await asyncio.to_thread(running.stop)


@pytest.fixture
async def client(pipeline: Pipeline) -> AsyncIterator[Client]:
    """A client of the shared pipeline with the admin key."""
    async with Client(pipeline.target()) as made:
        yield made


@pytest.fixture
def own_pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline that a test may break."""
    running = Pipeline(tmp_path / "data")
    yield running
    running.stop()
