"""Topics and ACLs on a Kafka cluster, for `stageline kafka`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiokafka.errors import KafkaError

from cli.client import CliError
from contracts import Topic, all_topics, dead_letter_topic
from contracts.topics import BUILT_IN_ACTIONS, dead_letters_of
from shared.errors import Outcome
from shared.kafka import acls
from shared.kafka.connection import KafkaAccess
from shared.kafka.topics import TopicSizes, ensure_topics


def every_topic(actions: tuple[str, ...]) -> list[Topic]:
    """All topics of a deployment, including the dead-letter topic of every group. `actions` names the task topics."""
    found = {t.name: t for t in all_topics(actions)}
    for service, groups in acls.GROUPS.items():
        for group, only in groups.items():
            for topic in acls.consumed_topics(service, actions):
                if only in (None, topic.name):
                    found[dead_letter_topic(topic.name, group)] = dead_letters_of(topic, group)
    return list(found.values())


def done(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` and return its result. Raises `CliError` (code 1) with one sentence when Kafka refuses."""
    # The client logs every attempt; the user needs the result alone.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except Outcome as error:
        raise CliError(str(error), 1) from None
    except KafkaError as error:
        raise CliError(
            f"Kafka at {KafkaAccess().bootstrap_servers}: {error} (unreachable, or KAFKA_SASL_* and KAFKA_SSL_* are wrong)", 1
        ) from None


def apply(action: list[str] | None, sizes: TopicSizes, prefix: str, with_rights: bool) -> tuple[int, int]:
    """Create missing topics and grant each service's user its ACLs; returns how many topics and ACLs there are. Raises `CliError`."""
    actions = (*BUILT_IN_ACTIONS, *(action or ()))
    granted = [(f"User:{prefix}{s}", acl) for s in acls.GROUPS for acl in acls.acls_for(s, actions)] if with_rights else []

    async def work() -> int:
        access = KafkaAccess()
        await ensure_topics(access, every_topic(actions), sizes)
        return await acls.create_acls(access, granted)

    return len(every_topic(actions)), done(work())


def grant(user: str, role: str, groups: str | None) -> int:
    """Grant an external program the ACLs of its role; returns their number. Raises `CliError`."""
    if role not in acls.OUTSIDE:
        raise CliError(f"role: {role!r} is not one of {', '.join(acls.OUTSIDE)}", 2)
    return done(acls.create_acls(KafkaAccess(), [(f"User:{user}", acl) for acl in acls.acls_for(role, group_prefix=groups)]))


def commands(role: str, user: str, action: list[str] | None) -> list[str]:
    """The ACLs of a service or role as arguments for `kafka-acls.sh`. Raises `CliError`."""
    try:
        found = acls.acls_for(role, (*BUILT_IN_ACTIONS, *(action or ())))
    except ValueError as error:
        raise CliError(str(error), 2) from None
    return [acl.command(f"User:{user}") for acl in found]
