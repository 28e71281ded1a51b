"""Kafka ACLs derived from the topic table: what each service, each role of external program and each tenant may read and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from contracts import TOPICS, Topic, all_topics, task_topic
from contracts.topics import (
    ACCESS_EVENTS_TOPIC,
    BUILT_IN_ACTIONS,
    SEAL_KEYS_TOPIC,
    SECRETS_TOPIC,
    TASK_PREFIX,
    TENANT_PREFIX,
    TENANTS_COMMANDS,
    dead_letter_topic,
    dead_letters_of,
    tenant_commands_topic,
    tenant_events_topic,
)

Operation = Literal["READ", "WRITE", "DESCRIBE", "CREATE"]
Kind = Literal["TOPIC", "GROUP"]

GROUPS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "ingest": {"ingest": None, "ingest-access": (ACCESS_EVENTS_TOPIC.name,), "ingest-tenants": (TENANTS_COMMANDS,)},
    "session": {"session": None},
    "job_orchestrator": {"job_orchestrator": None},
    "notifier": {"notifier": None, "notifier-access": (ACCESS_EVENTS_TOPIC.name,), "notifier-tenants": ()},
    "stage_worker": {"stage_worker": None},
}
"""Service → its consumer groups, each with the topics whose records it may dead-letter, or None for all topics of the service."""
OUTSIDE: dict[str, str] = {
    "producers": "",
    "consumers": "consumers.",
    "workers": "workers.",
    "operators": "operators.",
    "letters": "",
}
"""Role of an external program → default prefix of its consumer groups; empty for a role without groups. With `letters` the gateway
reads dead letters and sends them again."""
OPERATORS_WRITE = ("job.commands", "session.commands", "webhook.commands")
"""Topics that an operator may write beside those of the table."""
NEVER_SENT_AGAIN = frozenset({ACCESS_EVENTS_TOPIC.name, SEAL_KEYS_TOPIC.name, SECRETS_TOPIC.name})
"""Topics that give out rights, keys and secrets. Their one author alone writes them, so their dead letters are shown and not sent again."""
_TENANTS = Topic(TENANTS_COMMANDS, "", (), (), ())


@dataclass(frozen=True, slots=True)
class Acl:
    """Permission for one operation on a topic or group. `prefixed`: on every name that begins with `name`. `*` is every name."""

    operation: Operation
    kind: Kind
    name: str
    prefixed: bool = False

    def command(self, principal: str) -> str:
        """The ACL as arguments of Kafka's `kafka-acls.sh`; `principal` as `User:name`."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        name = "'*'" if self.name == "*" else self.name
        return f"--add --allow-principal {principal} --operation {self.operation.title()} --{self.kind.lower()} {name}{pattern}"


def acls_for(role: str, actions: Sequence[str] | None = None, group_prefix: str | None = None) -> list[Acl]:
    """All ACLs of a service, or of a role in `OUTSIDE`.

    `actions` are those whose tasks a worker takes: by default the built-in ones for the service, none for a program outside.
    `group_prefix` replaces the role's default prefix. Raises `ValueError` for an unknown role.
    """
    if role not in GROUPS and role not in OUTSIDE:
        raise ValueError(f"role: {role!r} is not one of {', '.join([*GROUPS, *OUTSIDE])}")
    taken = (BUILT_IN_ACTIONS if role == "stage_worker" else ()) if actions is None else actions
    found = [acl for t in TOPICS if role in t.producers for acl in on_topic(t.name, "WRITE")]
    found += [acl for t in TOPICS if role in t.consumers for acl in on_topic(t.name, "READ")]
    if role in ("stage_worker", "workers"):
        found += [acl for action in taken for acl in on_topic(TASK_PREFIX + action, "READ")]
    found += _prefixes(role)
    if role in OUTSIDE:
        prefix = OUTSIDE[role] if group_prefix is None else group_prefix
        found += [Acl("READ", "GROUP", prefix, prefixed=True)] if prefix else []
    found += [Acl("READ", "GROUP", group) for group in GROUPS.get(role, {})]
    found += [acl for t in dead_letter_topics(role, taken) for acl in on_topic(t.name, "WRITE")]
    if role == "workers":
        letters = [dead_letter_topic(TASK_PREFIX + action, role) for action in taken]
        found += [acl for name in letters for acl in (*on_topic(name, "WRITE"), Acl("CREATE", "TOPIC", name))]
    return list(dict.fromkeys(found))


def tenant_acls(tenant: str) -> list[Acl]:
    """All ACLs of a tenant's own program: it writes its commands, reads its events, and has groups of its own."""
    own = f"{TENANT_PREFIX}{tenant}."
    return [
        *on_topic(tenant_commands_topic(tenant).name, "WRITE"), *on_topic(tenant_events_topic(tenant).name, "READ"),
        *on_topic(SEAL_KEYS_TOPIC.name, "READ"),  # of use for the records alone that it may read
        Acl("READ", "GROUP", own, prefixed=True),
    ]  # fmt: skip


def on_topic(name: str, operation: Operation) -> list[Acl]:
    """The operation on one topic, and the look-up of its partitions, which every client needs."""
    return [Acl(operation, "TOPIC", name), Acl("DESCRIBE", "TOPIC", name)]


def consumed_topics(role: str, actions: Sequence[str]) -> list[Topic]:
    """The topics that a service or role reads, with the task topics of `actions` for a worker."""
    tasks = [task_topic(action) for action in actions] if role == "stage_worker" else []
    return [*(t for t in TOPICS if role in t.consumers), *tasks]


def dead_letter_topics(service: str, actions: Sequence[str]) -> list[Topic]:
    """The dead-letter topics of all groups of a service; none for a program outside."""
    return [
        dead_letters_of(topic, group)
        for group, only in GROUPS.get(service, {}).items()
        for topic in (*consumed_topics(service, actions), *([_TENANTS] if only else []))
        if only is None or topic.name in only
    ]


def deployment_topics(actions: Sequence[str]) -> list[Topic]:
    """All topics of a deployment, including the dead-letter topic of every group. `actions` names the task topics."""
    found = {t.name: t for t in all_topics(tuple(actions))}
    return list((found | {t.name: t for service in GROUPS for t in dead_letter_topics(service, actions)}).values())


def _prefixes(role: str) -> list[Acl]:
    if role == "job_orchestrator":
        return [Acl(op, "TOPIC", TASK_PREFIX, prefixed=True) for op in ("WRITE", "DESCRIBE", "CREATE")]
    if role == "ingest":
        return [Acl(op, "TOPIC", TENANT_PREFIX, prefixed=True) for op in ("READ", "DESCRIBE")]
    if role == "notifier":
        return [Acl(op, "TOPIC", TENANT_PREFIX, prefixed=True) for op in ("WRITE", "DESCRIBE")]
    if role == "operators":
        return [*on_topic("*", "READ"), *(acl for name in OPERATORS_WRITE for acl in on_topic(name, "WRITE"))]
    if role == "letters":
        return _letters()
    return []


def _letters() -> list[Acl]:
    """Read the dead letters of every topic, whichever group wrote them, and write the topics that they came from."""
    sources = [t.name for t in TOPICS if t.consumers and t.name not in NEVER_SENT_AGAIN]
    # A dead-letter topic is named after its source, then a dot, then the group.
    read = [f"{t.name}." for t in TOPICS] + [f"{TENANTS_COMMANDS}.", TASK_PREFIX]
    return [
        *(Acl(op, "TOPIC", prefix, prefixed=True) for prefix in read for op in ("READ", "DESCRIBE")), *on_topic(SEAL_KEYS_TOPIC.name, "READ"),
        *(acl for name in sources for acl in on_topic(name, "WRITE")),
        *(Acl(op, "TOPIC", prefix, prefixed=True) for prefix in (TASK_PREFIX, TENANT_PREFIX) for op in ("WRITE", "DESCRIBE")),
    ]  # fmt: skip
