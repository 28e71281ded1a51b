"""Kafka ACLs derived from the topic table: what each service and each role of external program may read and write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest

from contracts import TOPICS, Topic, dead_letter_topic, task_topic
from contracts.topics import BUILT_IN_ACTIONS, TASK_PREFIX
from shared.errors import Stop
from shared.kafka.connection import KafkaAccess

Operation = Literal["READ", "WRITE", "DESCRIBE"]
Kind = Literal["TOPIC", "GROUP"]
_KINDS = {"TOPIC": 2, "GROUP": 3}
_OPERATIONS = {"READ": 3, "WRITE": 4, "DESCRIBE": 8}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3

GROUPS: dict[str, dict[str, str | None]] = {
    "ingest": {"ingest": None, "ingest-access": "access.events"},
    "session": {"session": None},
    "job_orchestrator": {"job_orchestrator": None},
    "notifier": {"notifier": None, "notifier-access": "access.events"},
    "stage_worker": {"stage_worker": None},
}
"""Service → its consumer groups, each with the one topic that it reads, or None for all topics of the service."""
OUTSIDE: dict[str, str] = {"producers": "", "consumers": "consumers.", "workers": "workers."}
"""Role of an external program → default prefix of its consumer groups; empty for a role without groups."""


@dataclass(frozen=True, slots=True)
class Acl:
    """Permission for one operation on a topic or group. `prefixed`: on every name that begins with `name`."""

    operation: Operation
    kind: Kind
    name: str
    prefixed: bool = False

    def command(self, principal: str) -> str:
        """The ACL as arguments of Kafka's `kafka-acls.sh`; `principal` as `User:name`."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return (
            f"--add --allow-principal {principal} --operation {self.operation.title()} --{self.kind.lower()} {self.name}{pattern}"
        )


def acls_for(role: str, actions: Sequence[str] = BUILT_IN_ACTIONS, group_prefix: str | None = None) -> list[Acl]:
    """All ACLs of a service, or of a role in `OUTSIDE`.

    `actions` are the deployment's actions, whose task topics a worker reads; `group_prefix` replaces the role's default prefix.
    Raises `ValueError` for an unknown role.
    """
    if role not in GROUPS and role not in OUTSIDE:
        raise ValueError(f"role: {role!r} is not one of {', '.join([*GROUPS, *OUTSIDE])}")
    found = [Acl(op, "TOPIC", t.name) for t in TOPICS if role in t.producers for op in ("WRITE", "DESCRIBE")]
    found += [Acl(op, "TOPIC", t.name) for t in TOPICS if role in t.consumers for op in ("READ", "DESCRIBE")]
    found += _tasks(role)
    if role in OUTSIDE:
        prefix = OUTSIDE[role] if group_prefix is None else group_prefix
        found += [Acl("READ", "GROUP", prefix, prefixed=True)] if prefix else []
    for group, only in GROUPS.get(role, {}).items():
        found.append(Acl("READ", "GROUP", group))
        letters = [dead_letter_topic(t.name, group) for t in consumed_topics(role, actions) if only in (None, t.name)]
        found += [Acl(op, "TOPIC", name) for name in letters for op in ("WRITE", "DESCRIBE")]
    return list(dict.fromkeys(found))


def consumed_topics(role: str, actions: Sequence[str]) -> list[Topic]:
    """The topics that a service or role reads, with the task topics of `actions` for a worker."""
    tasks = [task_topic(action) for action in actions] if role == "stage_worker" else []
    return [*(t for t in TOPICS if role in t.consumers), *tasks]


def _tasks(role: str) -> list[Acl]:
    operation: Operation | None = {"job_orchestrator": "WRITE", "stage_worker": "READ", "workers": "READ"}.get(role)  # type: ignore[assignment]
    if operation is None:
        return []
    return [Acl(operation, "TOPIC", TASK_PREFIX, prefixed=True), Acl("DESCRIBE", "TOPIC", TASK_PREFIX, prefixed=True)]


async def create_acls(access: KafkaAccess, granted: Iterable[tuple[str, Acl]]) -> int:
    """Create ACLs from (`User:name`, ACL) pairs and return how many there are. Creating an existing one changes nothing.

    Raises `Stop` with the principal and the reason when Kafka refuses one.
    """
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    count = 0
    try:
        for principal, acl in granted:
            request = CreateAclsRequest(
                _KINDS[acl.kind],
                acl.name,
                _PREFIXED if acl.prefixed else _LITERAL,
                principal,
                "*",
                _OPERATIONS[acl.operation],
                _ALLOW,
            )
            response = await admin._send_request(request)
            for code, message in response.creation_responses:
                if code:
                    raise Stop("acl", f"{principal}, {acl.name}: {for_code(code).__name__}: {message or 'refused'}")
            count += 1
    finally:
        await admin.close()
    return count
