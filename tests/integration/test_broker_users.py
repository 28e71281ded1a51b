"""The embedded broker lets nobody in without a user, and storage of a release without users gets them at the first start."""

from __future__ import annotations

import asyncio
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from cli.local.broker_setup import USERS, fingerprint, set_up_embedded
from shared.embedded.broker_security import BrokerSecurity
from shared.embedded.kafka import EmbeddedKafka
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import ADMIN, Credentials, access_from
from shared.kafka.topics import TopicSizes, existing_topics
from tests.eventually import eventually
from tests.kafka_rights import may_read, may_write
from tests.servers import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
SIZES = TopicSizes(1, 1, 1)


@asynccontextmanager
async def running(broker: EmbeddedKafka) -> AsyncIterator[EmbeddedKafka]:
    await asyncio.to_thread(broker.prepare)
    with (broker.folder / "log").open("ab") as log:
        process = subprocess.Popen(broker.command, stdout=log, stderr=log)
    try:
        yield broker
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)


async def connects(options: dict[str, Any]) -> bool:
    """True when a client of these options gets a list of topics."""
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=5000)
    try:
        await admin.start()
        await admin.list_topics()
    except KafkaError:
        return False
    finally:
        await admin.close()
    return True


async def test_storage_without_users_gets_them_and_keeps_its_records(tmp_path: Path) -> None:
    folder, credentials = tmp_path / "kafka", Credentials(tmp_path / "users")
    async with running(EmbeddedKafka(folder, free_port(), free_port())) as old:
        plain = {"bootstrap_servers": old.bootstrap}

        async def up() -> bool:
            return await connects(plain)

        await eventually(up, 60, 0.2)
        admin = AIOKafkaAdminClient(**plain)
        await admin.start()
        await admin.create_topics([NewTopic("job.events", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(**plain) as producer:
            await producer.send_and_wait("job.events", b"kept")

    security = BrokerSecurity(folder, credentials, USERS)
    async with running(EmbeddedKafka(folder, free_port(), free_port(), security=security)) as broker:
        assert security.once, "the super user is not known yet"
        await set_up_embedded(security, broker.bootstrap, SIZES)
        await _only_users_get_in(broker, credentials)
        assert await may_read(credentials.access("consumer", broker.bootstrap), "job.events")
        assert not await may_write(credentials.access("consumer", broker.bootstrap), "job.events")
        assert not await may_write(credentials.access("producer", broker.bootstrap), "operator.commands")

    again = BrokerSecurity(folder, credentials, USERS)
    async with running(EmbeddedKafka(folder, free_port(), free_port(), security=again)) as broker:
        assert again.once is None and again.unknown() == {} and again.settled == fingerprint(SIZES)
        await set_up_embedded(again, broker.bootstrap, SIZES)
        once = {"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_PASSWORD": str(security.once)}
        stolen = access_from({**credentials.settings(ADMIN, broker.bootstrap), **once})
        assert not await connects(stolen.options), "the password of the first start is worth nothing now"
        assert "job.events" in await existing_topics(credentials.access("consumer", broker.bootstrap))


async def _only_users_get_in(broker: EmbeddedKafka, credentials: Credentials) -> None:
    user = credentials.access("consumer", broker.bootstrap)
    assert await connects(user.options)
    assert not await connects(KafkaAccess(bootstrap_servers=broker.bootstrap).options), "no user"
    assert not await connects({**user.options, "sasl_plain_password": "wrong"}), "a wrong password"
    controller = f"127.0.0.1:{broker.controller}"
    for options in (KafkaAccess(bootstrap_servers=controller).options, credentials.access(ADMIN, controller).options):
        assert not await connects(options), "the controller is for the broker alone"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (broker.folder / "server.properties", *credentials.folder.iterdir())}
    assert modes == {0o600} and stat.S_IMODE(credentials.folder.stat().st_mode) == 0o700
