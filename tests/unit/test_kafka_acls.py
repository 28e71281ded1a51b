"""Rights are those of the topic table: what no row allows, nobody may do."""

from __future__ import annotations

from itertools import permutations

import pytest

from contracts import TOPICS, task_topic
from contracts.topics import (
    ACCESS_EVENTS_TOPIC,
    BUILT_IN_ACTIONS,
    JOB_COMMANDS_TOPIC,
    OPERATOR_COMMANDS,
    OPERATOR_COMMANDS_TOPIC,
    PRODUCER_COMMANDS,
    SEAL_KEYS_TOPIC,
    SECRETS_TOPIC,
    TENANT_ID,
    dead_letter_topic,
    tenant_commands_topic,
    tenant_events_topic,
    tenant_of,
)
from shared.kafka.acls import GROUPS, OUTSIDE, Acl, acls_for, deployment_topics, tenant_acls

ROLES = [*GROUPS, *(role for role in OUTSIDE if role != "letters")]
"""Every role but the one that sends dead letters again to the topics that they came from."""
TENANTS = ["a", "a-b", "a_b", "ab", "commands", "events", "tenant", "A"]


def allows(acls: list[Acl], operation: str, name: str, kind: str = "TOPIC") -> bool:
    """What Kafka's authorizer answers."""
    return any(
        acl.operation == operation and acl.kind == kind
        and (acl.name in (name, "*") or (acl.prefixed and name.startswith(acl.name)))
        for acl in acls
    )  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_role_writes_the_topics_whose_rows_name_it(role: str, topic: object) -> None:
    name = topic.name  # type: ignore[attr-defined]
    writes = role in topic.producers or (role == "operators" and name in ("job.commands", "session.commands", "webhook.commands"))  # type: ignore[attr-defined]
    assert allows(acls_for(role), "WRITE", name) is writes
    assert allows(acls_for(role), "READ", name) is (role in topic.consumers or role == "operators")  # type: ignore[attr-defined]


def test_keys_are_written_by_the_gateway_alone() -> None:
    assert [role for role in ROLES if allows(acls_for(role), "WRITE", ACCESS_EVENTS_TOPIC.name)] == ["ingest"]


def test_operators_verbs_are_out_of_a_producers_reach() -> None:
    assert not allows(acls_for("producers"), "WRITE", OPERATOR_COMMANDS_TOPIC.name)
    assert {role for role in ROLES if allows(acls_for(role), "WRITE", OPERATOR_COMMANDS_TOPIC.name)} == {"ingest", "operators"}
    assert not set(JOB_COMMANDS_TOPIC.models) & set(OPERATOR_COMMANDS)
    assert set(OPERATOR_COMMANDS_TOPIC.models) == {*OPERATOR_COMMANDS, *PRODUCER_COMMANDS}


def test_a_worker_reads_the_tasks_of_its_own_actions_alone() -> None:
    own = acls_for("workers", ("acme.a", "acme.b"))
    assert [
        name for name in ("acme.a", "acme.b", "acme.ab", "acme.a.b", "noop") if allows(own, "READ", task_topic(name).name)
    ] == ["acme.a", "acme.b"]
    assert not allows(acls_for("workers"), "READ", task_topic("noop").name)
    letters = [dead_letter_topic(task_topic(action).name, "workers") for action in ("acme.a", "acme.b", "acme.c")]
    assert [[allows(own, operation, name) for name in letters] for operation in ("WRITE", "CREATE", "READ")] == [
        [True, True, False], [True, True, False], [False] * 3,
    ]  # fmt: skip
    assert not any(allows(own, "WRITE", task_topic(action).name) for action in ("acme.a", "acme.b", "noop"))
    built_in = acls_for("stage_worker")
    assert all(allows(built_in, "READ", task_topic(action).name) for action in BUILT_IN_ACTIONS)
    assert not allows(built_in, "READ", task_topic("acme.a").name)


@pytest.mark.parametrize(("one", "two"), list(permutations(TENANTS, 2)))
def test_a_tenant_reaches_nothing_of_another(one: str, two: str) -> None:
    rights = tenant_acls(one)
    theirs = [tenant_commands_topic(two).name, tenant_events_topic(two).name]
    letters = dead_letter_topic(tenant_commands_topic(one).name, "ingest-tenants")
    inside = [t.name for t in deployment_topics(BUILT_IN_ACTIONS) if t is not SEAL_KEYS_TOPIC]
    for name in [*theirs, letters, *inside]:
        assert not any(allows(rights, operation, name) for operation in ("READ", "WRITE", "DESCRIBE", "CREATE")), name
    assert not any(allows(rights, operation, SEAL_KEYS_TOPIC.name) for operation in ("WRITE", "CREATE")), "it reads keys alone"
    assert not allows(rights, "READ", f"tenant.{two}.program", "GROUP")
    assert not any(allows(rights, "READ", group, "GROUP") for groups in GROUPS.values() for group in groups)


def test_a_tenant_writes_commands_and_reads_events() -> None:
    rights = tenant_acls("acme")
    assert allows(rights, "WRITE", "tenant.acme.commands") and not allows(rights, "READ", "tenant.acme.commands")
    assert allows(rights, "READ", "tenant.acme.events") and not allows(rights, "WRITE", "tenant.acme.events")
    assert allows(rights, "READ", "tenant.acme.billing", "GROUP")


@pytest.mark.parametrize("role", ROLES)
def test_tenants_topics_are_for_gateway_and_notifier(role: str) -> None:
    rights, tenant = acls_for(role, ("acme.a",)), "acme"
    assert allows(rights, "READ", tenant_commands_topic(tenant).name) is (role in ("ingest", "operators"))
    assert allows(rights, "WRITE", tenant_events_topic(tenant).name) is (role == "notifier")


@pytest.mark.parametrize("name", ["a.b", "", "-a", "a*", "a b", "a" * 101, "ä", "a\n"])
def test_other_ids_are_no_part_of_a_topics_name(name: str) -> None:
    assert TENANT_ID.fullmatch(name) is None and tenant_of(f"tenant.{name}.commands") is None


def test_the_tenant_of_a_topic() -> None:
    assert tenant_of("tenant.acme.commands") == tenant_of("tenant.acme.events") == "acme"
    for name in (
        "tenant.acme",
        "tenant.acme.other",
        "tenants.acme.commands",
        "job.commands",
        "tenant..commands",
        "tenant.a.commands.x",
    ):
        assert tenant_of(name) is None


def test_letters_are_read_and_sent_again_and_nothing_else_is_read() -> None:
    rights = acls_for("letters")
    letters = [t.name for t in deployment_topics((*BUILT_IN_ACTIONS, "acme.a")) if t.name.endswith(".dlq")]
    letters += [dead_letter_topic("job.events", "billing"), dead_letter_topic(task_topic("acme.a").name, "workers")]
    assert letters and all(allows(rights, "READ", name) for name in letters)
    assert {t.name for t in TOPICS if allows(rights, "READ", t.name)} == {SEAL_KEYS_TOPIC.name}
    closed = {ACCESS_EVENTS_TOPIC.name, SEAL_KEYS_TOPIC.name, SECRETS_TOPIC.name}
    assert {t.name for t in TOPICS if not allows(rights, "WRITE", t.name)} == closed, "these give out rights"
    assert allows(rights, "WRITE", tenant_commands_topic("acme").name) and allows(rights, "WRITE", task_topic("acme.a").name)
    assert not any(acl.kind == "GROUP" or acl.operation == "CREATE" for acl in rights)
