"""The broker settings of docker-compose.yml, with the secrets that `cli.local.keys` makes, on a broker without Docker."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from cli.local import broker_setup, keys
from shared.embedded.kafka import EmbeddedKafka
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import access_from
from shared.kafka.topics import TopicSizes
from tests.integration.test_broker_users import connects
from tests.kafka_rights import may_read, may_write
from tests.servers import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
NOT_PROPERTIES = ("KAFKA_HEAP_OPTS", "KAFKA_OPTS")


def server_properties(ports: dict[str, int], folder: Path) -> str:
    """The brokers' environment as the image turns it into `server.properties`, on this machine's ports."""
    environment = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["kafka"]["environment"]
    found = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): re.sub(r"\$\{[A-Z0-9_]+:-([^}]*)\}", r"\1", str(value))
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name not in NOT_PROPERTIES
    }
    listeners = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    found |= {
        "listeners": ",".join(listeners), "advertised.listeners": ",".join(listeners[:2]),
        "controller.quorum.voters": f"1@127.0.0.1:{ports['CONTROLLER']}", "log.dirs": str(folder / "data"),
    }  # fmt: skip
    return "".join(f"{name}={value}\n" for name, value in found.items())


class Composed:
    """A running broker with the settings of the compose file, and the folder of the secrets."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port() for name in ("INTERNAL", "HOST", "CONTROLLER")}
        self.keys, self.broker_keys = folder / "keys", folder / "broker-keys"
        for made in (self.keys, self.broker_keys):
            made.mkdir()
        keys.main(self.keys, folder / "objects", self.broker_keys)
        kafka = folder / "kafka"
        properties = server_properties(self.ports, kafka)
        self.broker = EmbeddedKafka(kafka, self.ports["HOST"], self.ports["CONTROLLER"], properties)

    def access(self, user: str, listener: str, mechanism: str = "SCRAM-SHA-512") -> KafkaAccess:
        return access_from({
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.ports[listener]}", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": mechanism, "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(keys.kafka_files(self.keys)[user]),
        })  # fmt: skip


@pytest.fixture
async def composed(tmp_path: Path) -> AsyncIterator[Composed]:
    made = Composed(tmp_path)
    await asyncio.to_thread(made.broker.prepare)
    java, *rest = made.broker.command
    jaas = f"-Djava.security.auth.login.config={made.broker_keys / 'jaas.conf'}"
    with (tmp_path / "kafka.log").open("wb") as log:
        process = subprocess.Popen([java, jaas, *rest], stdout=log, stderr=log)
    yield made
    process.terminate()
    await asyncio.to_thread(process.wait, 60)


async def test_the_compose_settings_let_users_in_and_nobody_else(composed: Composed) -> None:
    passwords = {user: path.read_text().strip() for user, path in keys.kafka_files(composed.keys).items()}
    for _ in range(2):  # at each start
        await broker_setup.set_up(composed.access("admin", "INTERNAL", "PLAIN"), passwords, TopicSizes(1, 1, 1))
    for listener in ("INTERNAL", "HOST"):
        for user in (*broker_setup.USERS, "admin"):
            assert await connects(composed.access(user, listener).options), (listener, user)
        assert not await connects(KafkaAccess(bootstrap_servers=f"127.0.0.1:{composed.ports[listener]}").options)
    assert not await connects(composed.access("admin", "HOST", "PLAIN").options), "no password crosses the host's port"
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        assert not await connects(composed.access("admin", "CONTROLLER", mechanism).options)
    producer, consumer = composed.access("producer", "HOST"), composed.access("consumer", "HOST")
    assert await may_read(consumer, "job.events") and not await may_read(producer, "job.events")
    assert not await may_write(producer, "operator.commands") and not await may_write(consumer, "job.commands")
