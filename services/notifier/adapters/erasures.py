"""What the notifier deletes when a job, a file, a session or a tenant is erased."""

from __future__ import annotations

import json
import re

from sqlalchemy import Connection, text


def erase(connection: Connection, job_id: str) -> None:
    """Delete the deliveries and attempts of a job."""
    for table in ("delivery", "attempt"):
        connection.execute(text(f"DELETE FROM {table} WHERE job_id = :j"), {"j": job_id})


_BODIES = text("SELECT endpoint_id, event_id, body FROM delivery WHERE job_id = :j")
_OF_EVENT = [text(f"DELETE FROM {table} WHERE endpoint_id = :e AND event_id = :i") for table in ("attempt", "delivery")]


def erase_file(connection: Connection, job_id: str, file_id: str) -> None:
    """Delete the deliveries and attempts of a job's events that name a file."""
    # Alone or at the end of an address, as JSON has it, so that no id is found in a longer one.
    words = json.dumps(file_id, ensure_ascii=False)[1:-1]
    named = re.compile(rb'["/]' + re.escape(words.encode()) + rb'"')
    for row in connection.execute(_BODIES, {"j": job_id}).all():
        if named.search(row.body):
            for statement in _OF_EVENT:
                connection.execute(statement, {"e": row.endpoint_id, "i": row.event_id})


_SESSION_ATTEMPTS = text(
    "DELETE FROM attempt WHERE EXISTS (SELECT 1 FROM delivery d WHERE d.session_id = :s AND d.endpoint_id = attempt.endpoint_id "
    "AND d.event_id = attempt.event_id)"
)


def erase_session(connection: Connection, session_id: str, tenant: str) -> None:
    """Delete the deliveries and attempts of a session's events."""
    names = {"s": session_id, "t": tenant}
    connection.execute(_SESSION_ATTEMPTS, names)
    connection.execute(text("DELETE FROM delivery WHERE session_id = :s AND tenant_id = :t"), names)


_TENANT_ATTEMPTS = text(
    "DELETE FROM attempt WHERE endpoint_id IN (SELECT id FROM endpoint WHERE tenant_id = :t UNION SELECT endpoint_id FROM delivery "
    "WHERE tenant_id = :t)"
)


def erase_tenant(connection: Connection, tenant: str) -> None:
    """Delete a tenant's endpoints, deliveries, attempts, pending verifications and acts."""
    connection.execute(_TENANT_ATTEMPTS, {"t": tenant})
    for table in ("delivery", "endpoint", "webhook_pending", "webhook_act"):
        connection.execute(text(f"DELETE FROM {table} WHERE tenant_id = :t"), {"t": tenant})
    # A key that is not revoked yet is revoked by the event that follows on the topic of keys.
    connection.execute(text("DELETE FROM access_key WHERE tenant_id = :t AND revoked = :yes"), {"t": tenant, "yes": True})
