"""Topics, users and ACLs on a Kafka cluster, for `stageline kafka` and `stageline env`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError, for_code

from cli.local.plan import KAFKA_USERS
from cli.target import CliError, read_state
from contracts.topics import BUILT_IN_ACTIONS, TENANT_ID, Topic, tenant_commands_topic, tenant_events_topic
from shared.errors import Outcome, Stop
from shared.kafka import acls
from shared.kafka.acl_admin import create_acls, set_acls
from shared.kafka.acls import deployment_topics
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import ADMIN, PROGRAMS, Credentials
from shared.kafka.scram import alter_users
from shared.kafka.topics import TopicSizes, ensure_topics, shorten_retention

T = TypeVar("T")


def every_topic(actions: Sequence[str]) -> list[Topic]:
    """All topics of a deployment, including the dead-letter topic of every group. `actions` names the task topics."""
    return deployment_topics(actions)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as its administrator. `credentials` are those of the pipeline in a data directory; None elsewhere."""

    admin: KafkaAccess
    credentials: Credentials | None = None

    @property
    def bootstrap(self) -> str:
        """Addresses of the brokers."""
        return self.admin.bootstrap_servers


def cluster_of(data_dir: Path) -> Cluster:
    """The cluster of `KAFKA_*`, or else the broker of the pipeline that runs in `data_dir`."""
    given, local = KafkaAccess(), read_state(data_dir).get("kafka")
    if local is None or ("bootstrap_servers" in given.model_fields_set and given.bootstrap_servers != local):
        return Cluster(given)
    credentials = Credentials(data_dir / KAFKA_USERS)
    return Cluster(credentials.access(ADMIN, local), credentials)


def done(work: Coroutine[Any, Any, T], cluster: Cluster | None = None) -> T:
    """Run `work` and return its result. Raises `CliError` (code 1) with one sentence when Kafka refuses."""
    # The client logs every attempt; the user needs the result alone.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except Outcome as error:
        raise CliError(str(error), 1) from None
    except KafkaError as error:
        where = (cluster or Cluster(KafkaAccess())).bootstrap
        raise CliError(
            f"Kafka at {where}: {error} (unreachable, or KAFKA_SASL_* and KAFKA_SSL_* are wrong)", _code(error)
        ) from None


def _code(error: KafkaError) -> int:
    """Exit code of an error of Kafka: not reachable, refused, or failed."""
    if isinstance(error, KafkaConnectionError | KafkaTimeoutError):
        return 3
    return 5 if "Authorization" in type(error).__name__ or "Authentication" in type(error).__name__ else 1


def apply(action: list[str] | None, sizes: TopicSizes, prefix: str, with_rights: bool) -> tuple[int, int]:
    """Create missing topics, shorten retentions of an earlier release, and grant each service's user its ACLs; returns how many topics and ACLs there are. Raises `CliError`."""
    actions = (*BUILT_IN_ACTIONS, *(action or ()))
    granted = [(f"User:{prefix}{s}", acl) for s in acls.GROUPS for acl in acls.acls_for(s, actions)] if with_rights else []

    async def work() -> int:
        access = KafkaAccess()
        await ensure_topics(access, every_topic(actions), sizes)
        await shorten_retention(access, every_topic(actions))
        await set_acls(access, granted)
        return len(granted)

    return len(every_topic(actions)), done(work())


def role_of(word: str) -> str:
    """The role in the topic table for `producer`, `producers` and so on. Raises `CliError`."""
    role = PROGRAMS.get(word, word)
    if role not in acls.OUTSIDE:
        raise CliError(f"role: {word!r} is not one of {', '.join(acls.OUTSIDE)}", 2)
    return role


def grant(cluster: Cluster, user: str, word: str, actions: Sequence[str], groups: str | None, password: str | None) -> int:
    """Grant an external program the ACLs of its role; returns their number. Raises `CliError`.

    Creates the user with `password`, or with a generated one in a data directory. A worker gets the tasks of `actions` alone.
    """
    role = role_of(word)
    if role == "workers" and not actions:
        raise CliError("a worker reads the tasks of its own actions: name them, for example --actions acme.count_words", 2)
    granted = [(f"User:{user}", acl) for acl in acls.acls_for(role, tuple(actions), groups)]

    async def work() -> int:
        await _make_user(cluster, user, password)
        return await create_acls(cluster.admin, granted)

    return done(work(), cluster)


def grant_tenant(cluster: Cluster, tenant: str, user: str, sizes: TopicSizes, password: str | None) -> int:
    """Create a tenant's two topics and its user, and grant the user what it needs; returns the number of ACLs. Raises `CliError`."""
    check_tenant(tenant)

    async def work() -> int:
        await _make_user(cluster, user, password)
        # The topic of events first: it is there before the tenant's first command can have an effect.
        await ensure_topics(cluster.admin, [tenant_events_topic(tenant)], sizes)
        await ensure_topics(cluster.admin, [tenant_commands_topic(tenant)], sizes)
        return await create_acls(cluster.admin, [(f"User:{user}", acl) for acl in acls.tenant_acls(tenant)])

    return done(work(), cluster)


def revoke(cluster: Cluster, user: str, tenant: str | None, keep_topics: bool) -> None:
    """Take every right from a user and delete it, and with a tenant its topics. Raises `CliError`."""

    async def work() -> None:
        await set_acls(cluster.admin, [], [f"User:{user}"])
        if cluster.credentials is not None:
            await alter_users(cluster.admin, {}, [user])
            cluster.credentials.forget(user)
        if tenant is not None and not keep_topics:
            await _delete_topics(cluster, [tenant_commands_topic(tenant).name, tenant_events_topic(tenant).name])

    if tenant is not None:
        check_tenant(tenant)
    done(work(), cluster)


def check_tenant(tenant: str) -> None:
    """Raises `CliError` for an id that cannot be part of a topic's name."""
    if not TENANT_ID.fullmatch(tenant):
        raise CliError(f"tenant: {tenant!r} has more than letters, digits, dash and underscore, and cannot work by Kafka", 2)


async def _make_user(cluster: Cluster, user: str, password: str | None) -> None:
    if cluster.credentials is not None:
        password = password or cluster.credentials.password(user)
    if password is not None:
        await alter_users(cluster.admin, {user: password})


async def _delete_topics(cluster: Cluster, names: list[str]) -> None:
    admin = AIOKafkaAdminClient(**cluster.admin.options)
    await admin.start()
    try:
        for name, code, *_ in (await admin.delete_topics(names)).topic_error_codes:
            if code and for_code(code) is not UnknownTopicOrPartitionError:
                raise Stop("topic", f"{name} could not be deleted: {for_code(code).__name__}")
    finally:
        await admin.close()


def commands(role: str, user: str, actions: Sequence[str]) -> list[str]:
    """The ACLs of a service or role as arguments for `kafka-acls.sh`. Raises `CliError`."""
    name = PROGRAMS.get(role, role)
    try:
        found = acls.acls_for(name, (*BUILT_IN_ACTIONS, *actions) if name in acls.GROUPS else tuple(actions))
    except ValueError as error:
        raise CliError(str(error), 2) from None
    return [acl.command(f"User:{user}") for acl in found]


def tenant_commands(tenant: str, user: str, partitions: int, replication: int) -> list[str]:
    """What an administrator runs to grant a tenant by hand: arguments of `kafka-topics.sh` and `kafka-acls.sh`. Raises `CliError`."""
    check_tenant(tenant)
    rows = (tenant_events_topic(tenant), tenant_commands_topic(tenant))
    made = [f"--create --topic {t.name} --partitions {partitions} --replication-factor {replication}" for t in rows]
    return made + [acl.command(f"User:{user}") for acl in acls.tenant_acls(tenant)]
