"""Grants, compares and revokes ACLs on a cluster, a batch of them with one request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, CreateAclsRequest_v1, DeleteAclsRequest, DescribeAclsRequest

from shared.errors import Stop
from shared.kafka.acls import Acl
from shared.kafka.connection import KafkaAccess

_KINDS = {"TOPIC": 2, "GROUP": 3}
_OPERATIONS = {"READ": 3, "WRITE": 4, "CREATE": 5, "DESCRIBE": 8}
_ANY, _LITERAL, _PREFIXED, _ALLOW = 1, 3, 4, 3
Entry = tuple[int, str, int, str, str, int, int]
"""Kind, name, pattern, principal, host, operation and permission, in Kafka's numbers."""
Granted = tuple[str, Acl]
"""A principal as `User:name`, and one of its ACLs."""


class _CreateAll(CreateAclsRequest):  # type: ignore[misc]
    """All ACLs in one request, because a request per ACL takes a second for a deployment."""

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__(*entries[0])
        self._entries = entries

    def build(self, request_struct_class: Any) -> Any:
        """See `Request`. Only version 1 knows prefixes."""
        return CreateAclsRequest_v1(self._entries)


def entry(principal: str, acl: Acl) -> Entry:
    """An ACL in Kafka's numbers."""
    pattern = _PREFIXED if acl.prefixed else _LITERAL
    return _KINDS[acl.kind], acl.name, pattern, principal, "*", _OPERATIONS[acl.operation], _ALLOW


async def create_acls(access: KafkaAccess, granted: Iterable[Granted]) -> int:
    """Create ACLs and return how many there are. Creating an existing one changes nothing.

    Raises `Stop` with the principal and the reason when Kafka refuses one.
    """
    entries = [entry(principal, acl) for principal, acl in granted]
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    try:
        await _create(admin, entries)
    finally:
        await admin.close()
    return len(entries)


async def set_acls(access: KafkaAccess, granted: Iterable[Granted], principals: Iterable[str] = ()) -> int:
    """Give every principal of `granted` and `principals` these ACLs and no others; returns how many changed.

    ACLs of other principals stay. Raises `Stop` with the principal and the reason when Kafka refuses one.
    """
    wanted: dict[str, set[Entry]] = defaultdict(set)
    for principal in principals:
        wanted[principal] = set()
    for principal, acl in granted:
        wanted[principal].add(entry(principal, acl))
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    try:
        present = await _present(admin, wanted.keys())
        missing = sorted({e for entries in wanted.values() for e in entries} - present)
        await _create(admin, missing)
        extra = sorted(present - {e for entries in wanted.values() for e in entries})
        for one in extra:
            await _ask(admin, DeleteAclsRequest(*one))
        return len(missing) + len(extra)
    finally:
        await admin.close()


async def _present(admin: AIOKafkaAdminClient, principals: Iterable[str] | None) -> set[Entry]:
    """The ACLs of these principals, or of all where None is given."""
    known = None if principals is None else set(principals)
    # No name, principal or host: the request has nulls for them, which stand for any.
    anything = cast("str", None)
    answer = await _ask(admin, DescribeAclsRequest(_ANY, anything, _ANY, anything, anything, _ANY, _ANY))
    if answer.error_code:
        raise Stop("acl", f"the ACLs cannot be read: {for_code(answer.error_code).__name__}: {answer.error_message or ''}")
    return {
        (kind, name, pattern, principal, host, operation, permission)
        for kind, name, pattern, acls in answer.resources
        for principal, host, operation, permission in acls
        if known is None or principal in known
    }


async def _create(admin: AIOKafkaAdminClient, entries: list[Entry]) -> None:
    if not entries:
        return
    answer = await _ask(admin, _CreateAll(entries))
    for (_, name, _, principal, *_), (code, message) in zip(entries, answer.creation_responses, strict=True):
        if code:
            raise Stop("acl", f"{principal}, {name}: {for_code(code).__name__}: {message or 'refused'}")


async def _ask(admin: AIOKafkaAdminClient, request: Any) -> Any:
    return await admin._send_request(request)


async def granted_acls(access: KafkaAccess) -> list[dict[str, str]]:
    """Every ACL of the cluster in words, by user: `user, resource, name, pattern, operation, permission`. Raises `Stop`."""
    admin = AIOKafkaAdminClient(**access.options)
    await admin.start()
    try:
        entries = await _present(admin, None)
    finally:
        await admin.close()
    kinds = {2: "topic", 3: "group", 4: "cluster", 5: "transactional id"}
    operations = {
        2: "all", 3: "read", 4: "write", 5: "create", 6: "delete", 7: "alter", 8: "describe", 9: "cluster action",
        10: "describe configs", 11: "alter configs", 12: "idempotent write",
    }  # fmt: skip
    patterns, permissions = {_LITERAL: "name", _PREFIXED: "prefix"}, {2: "deny", _ALLOW: "allow"}
    found = [
        {
            "user": principal.removeprefix("User:"), "resource": kinds.get(kind, str(kind)), "name": name,
            "pattern": patterns.get(pattern, str(pattern)), "operation": operations.get(operation, str(operation)),
            "permission": permissions.get(permission, str(permission)),
        }
        for kind, name, pattern, principal, _, operation, permission in entries
    ]  # fmt: skip
    return sorted(found, key=lambda acl: tuple(acl.values()))
