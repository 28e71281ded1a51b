"""Servers for tests: by testcontainers if Docker runs, else from portable builds. The test run prints the choice."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POSTGRES_IMAGE = "postgres:17"
KAFKA_IMAGE = "apache/kafka:4.3.1"


@functools.cache
def docker_has(image: str) -> bool:
    """True when a Docker daemon answers and has the image (or may pull it: `STAGELINE_TEST_PULL=1`)."""
    if os.environ.get("STAGELINE_TEST_DOCKER") == "0" or shutil.which("docker") is None:
        return False
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        return False
    known = subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0
    return known or os.environ.get("STAGELINE_TEST_PULL") == "1"


def choice(image: str) -> str:
    """The origin of a server, in words."""
    return f"testcontainers ({image})" if docker_has(image) else "portable build, no Docker"


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL superuser on a server of our own."""
    given = os.environ.get("STAGELINE_TEST_POSTGRES")
    if given:
        yield given
    elif docker_has(POSTGRES_IMAGE):
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        from shared.embedded.postgres import EmbeddedPostgres

        server = EmbeddedPostgres(free_port())
        server.start()
        try:
            yield server.url.replace("+asyncpg", "")
        finally:
            server.stop()


@contextmanager
def kafka() -> Iterator[str]:
    """Bootstrap server of a Kafka broker of our own."""
    if docker_has(KAFKA_IMAGE):
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from tests.kafka_container import ApacheKafkaContainer

        with ApacheKafkaContainer(KAFKA_IMAGE) as container:
            yield container.bootstrap_server()
    else:
        with _portable_kafka() as bootstrap:
            yield bootstrap


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "Kafka did not start"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)


@contextmanager
def _portable_kafka() -> Iterator[str]:
    from shared.embedded.kafka import EmbeddedKafka

    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder) / "kafka", free_port(), free_port())
        broker.prepare()
        with open(Path(folder) / "log", "wb") as log:
            process = subprocess.Popen(broker.command, stdout=log, stderr=log)
        try:
            _await_port(broker.port, process)
            yield broker.bootstrap
        finally:
            process.terminate()
            broker.ended(process.wait(30))
