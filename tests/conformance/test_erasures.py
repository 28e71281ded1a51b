"""What erasure finds: unused sessions, files of entries, every row of a tenant. On both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, text

from contracts import JobErased, SessionErased, Tenancy, derived
from services.ingest.adapters.background.retention import unused_sessions
from services.ingest.adapters.store import (
    erasure_requests,
    erasures,
    object_claims,
    operations,
    read_model,
    tenant_erasures,
    uploads,
)
from services.ingest.dialects.invopop import store as silo
from services.ingest.schema import MODELS
from shared import clock
from shared.database.store import table_of
from tests.conformance.conftest import Opener
from tests.conformance.test_ingest_stores import row as upload_row

DAY = 86_400.0
NOW = 1_800_000_000.0
OWN_END = {"access_key", "audit", "erasure_request", "tenant_erasure"}
"""Tables with tenants that an erasure does not empty: revoked keys, the audit, and its own."""
NO_TENANT = {
    "amx_nonce", "upload_part", "conversion_data", "blob_ref", "object_claim",  # emptied by what they belong to
    "history", "held_end", "early_end",  # erased with their jobs
    "erased", "erased_file", "decision", "doomed_object", "blob_doomed", "row_turn", "rate_window", "signin",  # ids and counts
    "backlog_view", "workflow_view", "workflow_gone", "workflow_draft", "audit_chain", "link_key",  # the platform's
    "worker_view", "letter_act",  # workers, and what operators did with letters, both without content
}  # fmt: skip
"""Tables whose rows name no tenant."""


def session(session_id: str, status: str, days: float, tenant: str = "t") -> dict[str, Any]:
    moment = datetime.fromtimestamp(NOW - days * DAY, UTC)
    return {"id": session_id, "company_id": tenant, "status": status, "update_date": moment.isoformat()}


async def test_unused_sessions_are_found_by_their_state_and_age(opened: Opener) -> None:
    store = await opened("ingest")

    def check(c: Connection) -> None:
        c.execute(text("INSERT INTO retention (tenant_id, days) VALUES ('t', 3), ('short', 0), ('long', 400)"))
        listed = [
            session("expired-2", "expired", 2), session("expired-4", "expired", 4), session("open-2", "open", 2),
            session("open-4", "open", 4), session("closed", "closed", 500), session("short-expired", "expired", 0.1, "short"),
            session("short-open", "open", 0.5, "short"), session("short-left", "open", 1.5, "short"),
            session("long-expired", "expired", 8, "long"), session("long-open", "open", 300, "long"),
            session("none-6", "expired", 6, "none"), session("none-8", "expired", 8, "none"), session("none-open", "open", 300, "none"),
        ]  # fmt: skip
        read_model.save_sessions(c, listed)
        found = {r.id for r in unused_sessions(c, NOW)}
        assert found == {"expired-4", "open-4", "short-expired", "short-left", "long-expired", "none-8"}
        read_model.save_sessions(c, [session("open-4", "closed", 4), session("expired-4", "open", 0)])
        assert not {"open-4", "expired-4"} & {r.id for r in unused_sessions(c, NOW)}, "used since"

    await store.transact(check)


async def test_an_erased_session_takes_unfinished_uploads_with_it(opened: Opener) -> None:
    store = await opened("ingest")
    parts, kept = "incoming/t/part", f"t/aa/{'aa' * 32}"

    def check(c: Connection) -> None:
        uploads.enter(c, upload_row("u", session_id="s", expires_at=NOW))
        uploads.enter(c, upload_row("foreign", session_id="s", tenant_id="other", expires_at=NOW))
        uploads.advance(c, "u", 0, [uploads.Part(0, 6, parts)], NOW)
        c.execute(text("INSERT INTO blob_ref (blob, file_id) VALUES (:b, 'of another job')"), {"b": kept})
        common: dict[str, Any] = {"session_id": "s", "owner": Tenancy(tenant_id="t", user_name="ann"), "occurred_at": clock.now()}
        event = SessionErased(event_id="e", caused_by="c", reason="asked", blobs=(kept, "other/bb/cc"), **common)
        erasures.erase_session(c, event, NOW)
        assert list(c.execute(text("SELECT id FROM upload")).scalars()) == ["foreign"]
        assert {r.blob for r in object_claims.due(c, NOW, 10)} == {parts, kept}, "another tenant's object stays"
        assert object_claims.lease(c, parts, NOW) and not object_claims.lease(c, kept, NOW)
        (line,) = c.execute(text("SELECT body FROM audit")).scalars()
        assert '"session.erase"' in line and '"ann"' in line and '"asked"' in line

    await store.transact(check)


async def test_the_entry_of_a_job_goes_with_its_files_under_any_key_and_child_jobs_follow(opened: Opener) -> None:
    store = await opened("ingest")
    mine, before = derived("j", "entry"), "before"
    one, shared = f"t/aa/{'aa' * 32}", f"t/bb/{'bb' * 32}"

    def check(c: Connection) -> None:
        for entry, key in ((mine, "alternative"), (before, None)):
            assert silo.enter_entry(c, "t", {"id": entry, "key": key}, NOW)
        insert = text("INSERT INTO silo_file (tenant_id, id, entry_id, body, blob) VALUES (:t, :i, :e, :body, :b)")
        for tenant, file, entry, blob in (("t", "f1", mine, one), ("t", "f2", mine, shared), ("t", "f3", before, shared)):
            c.execute(insert, {"t": tenant, "i": file, "e": entry, "b": blob, "body": f'{{"id": "{file}"}}'})
            erasures.add_refs(c, tenant, file, [blob])
        operations.save_terms(c, [("t", "parent_job_id:j", NOW, "child"), ("other", "parent_job_id:j", NOW, "foreign")])
        event = JobErased(event_id="e", job_id="j", tenant_id="t", occurred_at=clock.now())
        erasures.erase_job(c, event, NOW)
        assert list(c.execute(text("SELECT id FROM erasure_request")).scalars()) == ["child"]
        assert silo.entry_by(c, "t", "key", "alternative") is None
        assert [f["id"] for f in silo.files_of(c, "t", before)] == ["f3"], "it was there before the job"
        assert object_claims.lease(c, one, NOW) and not object_claims.lease(c, shared, NOW), "another entry has the same bytes"
        assert erasures.erase_entry(c, "t", before, NOW) and not erasures.erase_entry(c, "t", before, NOW)
        assert object_claims.lease(c, shared, NOW)

    await store.transact(check)


def test_every_table_with_a_tenant_is_emptied_or_named() -> None:
    tables = {t.name: t for t in map(table_of, MODELS)}
    with_tenant = {name for name, table in tables.items() if "tenant_id" in table.c}
    assert with_tenant == set(tenant_erasures.WITH_TENANT) | OWN_END
    assert set(tables) - with_tenant == NO_TENANT


async def test_rows_of_a_tenant_go_and_those_of_another_stay(opened: Opener) -> None:
    store = await opened("ingest")

    def value(column: sa.Column[Any], tenant: str) -> Any:
        if column.name == "tenant_id":
            return tenant
        if isinstance(column.type, (sa.String, sa.LargeBinary)) or column.type.python_type is object:
            return f"{tenant}/aa/x" if column.name == "blob" else f"{tenant}-{column.name}"
        return 1

    def fill(c: Connection, tenant: str) -> None:
        for name in (*tenant_erasures.WITH_TENANT, "blob_ref", "object_claim"):
            table = next(t for t in map(table_of, MODELS) if t.name == name)
            c.execute(table.insert(), {column.name: value(column, tenant) for column in table.c})

    def rows(c: Connection) -> dict[str, int]:
        names = (*tenant_erasures.WITH_TENANT, "blob_ref", "object_claim")
        return {name: c.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names}

    def check(c: Connection) -> None:
        fill(c, "t")
        fill(c, "t2")
        unit = SimpleNamespace(connection=c, now=NOW, emit=lambda *more: None)
        tenant_erasures.begin(unit, "t", "root")  # type: ignore[arg-type]
        assert tenant_erasures.is_erased(c, "t") and not tenant_erasures.is_erased(c, "t2")
        assert not tenant_erasures.readmit(c, "t")
        tenant_erasures.ask_for_all(c, "t", "root", NOW)
        tenant_erasures.ask_for_all(c, "t", "root", NOW)
        assert tenant_erasures.left(c, "t") == {"jobs": 1, "sessions": 1, "erasures": 1, "entries": 1}, "asked for once"
        erasure_requests.done(c, "t-id")
        tenant_erasures.erase_entries(c, "t", NOW)
        tenant_erasures.erase_rows(c, "t")
        assert set(rows(c).values()) == {1}, rows(c)
        tenant_erasures.end(c, "t", NOW)
        assert tenant_erasures.erasure_of(c, "t").state == "done" and tenant_erasures.readmit(c, "t")

    await store.transact(check)
