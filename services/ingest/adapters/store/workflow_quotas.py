"""How many workflows a tenant may have, and which actions they may name: each action is a Kafka topic for its tasks."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import Connection, text

from contracts.topics import BUILT_IN_ACTIONS
from services.ingest.adapters.store.quotas import Quotas
from services.ingest.adapters.store.reservations import OverLimit
from shared.database.statements import exclusive

SERVED_S = 120.0
"""Seconds since its last sign of life during which a worker's actions count as served."""
_MINE = text("SELECT action, allowed FROM tenant_action WHERE tenant_id = :t")
_ADD = text(
    "INSERT INTO tenant_action (tenant_id, action, allowed, created_at) VALUES (:t, :a, :allowed, :at) ON CONFLICT (tenant_id, action) "
    "DO UPDATE SET allowed = excluded.allowed"
)
_DROP = text("DELETE FROM tenant_action WHERE tenant_id = :t AND action = :a")
_BACKLOG = text("SELECT body FROM backlog_view")
_PLATFORM = text("SELECT body FROM workflow_view WHERE name NOT LIKE 'tenant.%'")
_FLOWS = text("SELECT count(*) FROM silo_flow WHERE tenant_id = :t")
_FLOW = text("SELECT 1 FROM silo_flow WHERE tenant_id = :t AND id = :i")


def admit_actions(connection: Connection, tenant: str, caps: Quotas, actions: Collection[str], now: float) -> list[str]:
    """Let the tenant's workflows name `actions`. Returns those that it may not introduce; then nothing changes.

    Free are built-in actions, those that a live worker serves, those of the platform's workflows, and those that an admin allowed. Others
    take a place in the tenant's quota, once.
    """
    exclusive(connection, f"actions:{tenant}")
    mine = {row.action: row.allowed for row in connection.execute(_MINE, {"t": tenant})}
    new = set(actions) - set(BUILT_IN_ACTIONS) - mine.keys()
    if new:
        new -= _served(connection, now)
    if new:
        new -= _of_platform(connection)
    introduced = sum(not allowed for allowed in mine.values())
    if introduced + len(new) > caps.actions:
        return sorted(new)
    for action in sorted(new):
        connection.execute(_ADD, {"t": tenant, "a": action, "allowed": False, "at": now})
    return []


def _served(connection: Connection, now: float) -> set[str]:
    bodies = connection.execute(_BACKLOG).scalars()
    return {action for body in bodies for action, at in json.loads(body)["workers"].items() if at > now - SERVED_S}


def _of_platform(connection: Connection) -> set[str]:
    found: set[str] = set()
    for body in connection.execute(_PLATFORM).scalars():
        definition = json.loads(body)["definition"]
        found |= {step.get("action") or "" for step in (*definition.get("steps", ()), *definition.get("rescue", ()))}
    return found


def allow_action(connection: Connection, tenant: str, action: str, now: float) -> None:
    """An admin allows an action: it takes no place in the quota."""
    connection.execute(_ADD, {"t": tenant, "a": action, "allowed": True, "at": now})


def forget_action(connection: Connection, tenant: str, action: str) -> bool:
    """Take an action from the tenant; workflows that are published keep it. Returns False when the tenant did not have it."""
    return bool(connection.execute(_DROP, {"t": tenant, "a": action}).rowcount)


def actions_of(connection: Connection, tenant: str) -> list[dict[str, object]]:
    """The tenant's own actions, and whether an admin allowed them."""
    return [{"action": r.action, "allowed": bool(r.allowed)} for r in connection.execute(_MINE, {"t": tenant})]


def admit_flow(connection: Connection, tenant: str, caps: Quotas, flow_id: str) -> bool:
    """Make sure that the tenant may have the workflow. Returns True when it is new. Raises `OverLimit`.

    The lock holds until the caller's transaction ends, so the caller inserts the workflow in it.
    """
    exclusive(connection, f"flows:{tenant}")
    if connection.execute(_FLOW, {"t": tenant, "i": flow_id}).first() is not None:
        return False
    if int(connection.execute(_FLOWS, {"t": tenant}).scalar_one()) >= caps.workflows:
        raise OverLimit(f"There are {caps.workflows} workflows, which is the limit: delete some.", 3600)
    return True
