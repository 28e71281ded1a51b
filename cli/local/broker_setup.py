"""Gives a broker its users, topics and rights, at each start of a deployment. Safe to repeat.

`python -m cli.local.broker_setup DIR` does so for docker-compose.yml, with the passwords that `cli.local.keys` made in DIR.
`python -m cli.local.broker_setup DIR env USER` prints the settings of a program outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from cli.local.keys import kafka_files
from contracts.topics import BUILT_IN_ACTIONS
from shared.embedded.broker_security import BrokerSecurity
from shared.errors import Stop
from shared.kafka.acl_admin import Granted, create_acls, set_acls
from shared.kafka.acls import GROUPS, acls_for, deployment_topics
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import PROGRAMS, SERVICE_PREFIX
from shared.kafka.scram import alter_users
from shared.kafka.topics import TopicSizes, ensure_topics, existing_topics, shorten_retention
from shared.settings import Settings, read_secret

PATIENCE_S = 60.0
LOOK_S = 15.0
"""How often missing topics are looked for."""
GROWING = "worker"
"""The user whose rights `stageline env --actions` adds to. Others lose at a start what the table does not give them."""
USERS: tuple[str, ...] = (*(SERVICE_PREFIX + service for service in GROUPS), *PROGRAMS)
"""Every user of a deployment beside the super user."""


def worker_actions() -> tuple[str, ...]:
    """The actions of the deployment's own worker. Tests and benchmarks have one more (`STAGELINE_TEST_ACTIONS`)."""
    return (*BUILT_IN_ACTIONS, "test.outcome") if os.environ.get("STAGELINE_TEST_ACTIONS") == "1" else BUILT_IN_ACTIONS


def rights() -> list[Granted]:
    """The ACLs of all services and of the programs outside."""
    actions = {"stage_worker": worker_actions()}
    services = [(f"User:{SERVICE_PREFIX}{service}", acl) for service in GROUPS for acl in acls_for(service, actions.get(service))]
    return services + [(f"User:{user}", acl) for user, role in PROGRAMS.items() for acl in acls_for(role)]


def fingerprint(sizes: TopicSizes) -> str:
    """Changes with a release that has other topics or rights."""
    names = sorted(f"{t.name} {t.retention_s}" for t in deployment_topics(worker_actions()))
    return hashlib.sha256(repr((names, sizes, sorted(map(repr, rights())))).encode()).hexdigest()


async def set_up(access: KafkaAccess, passwords: Mapping[str, str], sizes: TopicSizes) -> None:
    """Create or change these users, create missing topics, and give services and programs the rights of the table.

    Waits for the broker. Raises `Stop` when it does not answer within `PATIENCE_S`, or refuses.
    """
    with _quiet():
        await _answers(access)
        if passwords:
            await alter_users(access, passwords)
        # Rights first: a broker applies changes in their order, and takes seconds for the files of new topics.
        growing = [one for one in rights() if one[0] == f"User:{GROWING}"]
        await set_acls(access, [one for one in rights() if one not in growing])
        await create_acls(access, growing)
        topics = deployment_topics(worker_actions())
        await ensure_topics(access, topics, sizes, PATIENCE_S)
        await shorten_retention(access, topics)
        await _until(access, {t.name for t in topics})


async def set_up_embedded(security: BrokerSecurity, bootstrap: str, sizes: TopicSizes) -> None:
    """As `set_up`, for an embedded broker, which keeps in mind what it has."""
    await set_up(security.admin(bootstrap), security.unknown(), sizes)
    await asyncio.to_thread(security.note, fingerprint(sizes))


async def keep_topics(access: KafkaAccess, sizes: TopicSizes, say: Callable[[str], None]) -> None:
    """Make topics of the table again when one is missing, until cancelled. The orchestrator does so for those of other actions."""
    topics = deployment_topics(worker_actions())
    while True:
        await asyncio.sleep(LOOK_S)
        with _quiet(), contextlib.suppress(KafkaError, OSError):
            missing = {t.name for t in topics} - await existing_topics(access)
            if missing:
                say(f"missing topics are made again: {', '.join(sorted(missing))}")
                await ensure_topics(access, topics, sizes)


async def _answers(access: KafkaAccess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        admin = AIOKafkaAdminClient(**access.options)
        try:
            await admin.start()
            return
        except KafkaConnectionError:
            if time.monotonic() > deadline:
                raise Stop("kafka_unavailable", f"Kafka at {access.bootstrap_servers} did not answer in time") from None
        finally:
            await admin.close()
        await asyncio.sleep(0.1)


async def _until(access: KafkaAccess, names: set[str]) -> None:
    """Wait until the broker knows topics that its controller has created."""
    deadline = time.monotonic() + PATIENCE_S
    while not names <= await existing_topics(access):
        if time.monotonic() > deadline:
            raise Stop("kafka_unavailable", f"Kafka at {access.bootstrap_servers} did not make its topics in time")
        await asyncio.sleep(0.1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without aiokafka's log, which has an error for every attempt before the broker listens."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def main(folder: Path, *words: str) -> None:
    """Set up the cluster of `KAFKA_*` with the users in `folder`, or print what one of them needs. Raises `Stop`."""
    passwords = {user: read_secret(path) for user, path in kafka_files(folder).items()}
    if words[:1] == ("env",):
        user = words[1] if words[1:] else "consumer"
        for name, value in outside(user, passwords[user]).items():
            print(f"export {name}={shlex.quote(value)}")
        return
    settings = Settings()
    hot, tasks = settings.partitions, settings.task_partitions or settings.partitions
    asyncio.run(set_up(settings.kafka, passwords, TopicSizes(hot, tasks, settings.replication_factor)))


def outside(user: str, password: str) -> dict[str, str]:
    """`KAFKA_*` for a program on the machine that runs docker compose."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{os.environ.get('KAFKA_PORT', '29092')}", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": password,
    }  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
