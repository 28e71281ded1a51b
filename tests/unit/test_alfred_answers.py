"""Alfred's answers: every documented member, UUIDs where the vendor documents them, and no number that is null."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from contracts import JobErased, JobStage, RegisterWebhook
from contracts.alfred_view import company_id, event_view, metadata_id, tag_id, value_id
from services.ingest.adapters.store import known_names, tenant_erasures
from shared.database.migrate import migrate
from shared.database.open import open_store
from tests.contracts.examples import AT
from tests.gateway_app import InProcess, gateway_app
from tests.unit.alfred_records import (
    FILE,
    FILE_TYPES,
    JOB,
    JOB_TYPES,
    REMOTE_JOB,
    SESSION,
    VALUE_TYPES,
    WHO_TYPES,
    Strict,
    created,
    processed,
    project,
    session,
)

URL = "https://documents.example.com"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with all tables. A copy of it is ready sooner than a new one."""
    folder = tmp_path_factory.mktemp("empty")

    async def make() -> None:
        async with gateway_app(folder):
            pass

    asyncio.run(make())
    return folder / "ingest.db"


@pytest.fixture
async def gateway(tmp_path: Path, database: Path) -> AsyncIterator[InProcess]:
    shutil.copy(database, tmp_path / "ingest.db")
    async with gateway_app(tmp_path, public_url=URL) as made:
        yield made


@pytest.fixture
async def ask(gateway: InProcess) -> AsyncIterator[Any]:
    key = await gateway.key()
    async with gateway.http(**{"X-TagshelfAPI-Key": key}) as http:

        async def get(path: str, status: int = 200) -> Any:
            answer = await http.get(f"/api/{path}")
            assert answer.status_code == status, (path, answer.text)
            return answer.json()

        yield get


async def test_a_job_and_its_session(gateway: InProcess, ask: Any) -> None:
    await gateway.store.transact(lambda c: project(c, *session()))
    early = await ask(f"job/detail/{JOB}")
    await gateway.store.transact(
        lambda c: project(c, created(JOB, deferred_session_id=SESSION, uploaded_ids=(FILE,), metadata=[{"n": 1}, {"n": 2}]))
    )
    job = await ask(f"job/detail/{JOB}")
    for answer in (early, job):
        Strict(answer).check(JOB_TYPES)
        assert answer["company_id"] == company_id("acme") and answer["propagate_metadata"] is True
        assert answer["file_urls"] == [f"{URL}/api/file/download/{FILE}"] and [f["id"] for f in answer["files"]] == [FILE]
    assert job["metadata_objects_count"] == 2
    Strict(job["files"][0]).check(
        {"guid": "id", "date": "creation_date update_date", "flag": "is_parent is_children", "string?": "tag_name"}
    )
    (listed,) = (await ask("job/all"))["result"]
    assert listed == {**job, "files": None}
    detail = await ask(f"deferred/detail/{SESSION}")
    types = {"guid": "id company_id", "guid?": "job_id", "date": "creation_date update_date", "string": "status user_name"}
    Strict(detail).check({**types, "objects": "files"})
    assert detail["job_id"] == JOB and detail["company_id"] == company_id("acme")


async def test_a_job_of_remote_files(gateway: InProcess, ask: Any) -> None:
    await gateway.store.transact(lambda c: project(c, created(REMOTE_JOB, file_urls=("https://example.com/a.pdf",))))
    job = await ask(f"job/detail/{REMOTE_JOB}")
    Strict(job).check(JOB_TYPES)
    assert job["file_urls"] == ["https://example.com/a.pdf"] and job["propagate_metadata"] is False and job["files"] == []
    assert job["metadata_objects_count"] == 0 and job["stage"] == JobStage.QUEUED.value


async def test_a_job_of_a_previous_release_lists_its_uploads_too(gateway: InProcess, ask: Any) -> None:
    def enter(c: Connection) -> None:
        project(c, *session(), created(JOB))
        for body in c.execute(text("SELECT body FROM job_view")).scalars().all():
            record = json.loads(body)
            del record["uploaded_ids"]
            c.execute(text("UPDATE job_view SET body = :b"), {"b": json.dumps(record)})

    await gateway.store.transact(enter)
    assert (await ask(f"job/detail/{JOB}"))["file_urls"] == [f"{URL}/api/file/download/{FILE}"]


async def test_a_file_before_and_after_it_is_processed(gateway: InProcess, ask: Any) -> None:
    await gateway.store.transact(lambda c: project(c, *session(), created(JOB)))
    new = await ask(f"file/detail/{FILE}")
    assert (new["tag_id"], new["classification_score"], new["proposed_tag_variance"]) == (None, 0.0, 0.0)
    await gateway.store.transact(lambda c: project(c, *processed({"total": 3}, "invoice")))
    file = await ask(f"file/detail/{FILE}")
    for answer in (new, file):
        Strict(answer).check(FILE_TYPES)
        assert answer["blob_url"] == f"{URL}/api/file/download/{FILE}" and answer["company_id"] == company_id("acme")
    assert (file["tag_id"], file["tag_name"]) == (tag_id("acme", "invoice"), "invoice") and file["classification_score"] == 0.5
    assert (await ask("file/all"))["result"] == [file]
    seen = [event_view(json.loads(e.to_json()), lambda path: URL + path) for e in processed({"total": 3}, "invoice")]
    assert await ask(f"file/events/{FILE}") == seen, "as the webhook and the socket have them"


async def test_values_and_reports_by_id_and_by_name(gateway: InProcess, ask: Any) -> None:
    await gateway.store.transact(
        lambda c: project(c, *session(), created(JOB), *processed({"total": 3, "a b/c": "x"}, "invoice"))
    )
    values = await ask(f"values/file/{FILE}")
    for row in values:
        Strict(row).check(VALUE_TYPES)
    assert values[1] == {
        "id": value_id(FILE, "total"), "file_log_id": FILE, "metadata_id": metadata_id("acme", "total"), "metadata_name": "total",
        "value": "3", "classification_score": 0.5,
    }  # fmt: skip
    invoice = tag_id("acme", "invoice")
    for given in ("invoice", invoice, invoice.upper()):
        assert await ask(f"values/tag/{given}") == values
        assert await ask(f"report/tag/{given}") == [{"file_id": FILE, "a b/c": "x", "total": "3"}]
        tag = await ask(f"tag/detail/{given}")
        assert (tag["id"], tag["name"]) == (invoice, "invoice")
    for wrong in (tag_id("other", "invoice"), "Invoice", metadata_id("acme", "total")):
        for path in ("values/tag", "report/tag", "tag/detail"):
            assert (await ask(f"{path}/{wrong}", 404))["error"] == "Not Found"


async def test_every_id_that_values_hand_out_is_known(gateway: InProcess, ask: Any) -> None:
    extracted = {"total": 3, "invoice_number": "R-1", "Ä ö": "x", "a\0b": "null", "n" * 5000: "long"}
    await gateway.store.transact(lambda c: project(c, *session(), created(JOB), *processed(extracted, "delivery-note")))
    key = await gateway.key("operator")
    async with gateway.http(**{"X-API-Key": key}) as http:
        put = await http.put("/v1/metadata/total", json={"data_type": "number", "tag": "delivery-note"})
        assert put.status_code == 200
    handed_out = {row["metadata_id"]: row["metadata_name"] for row in await ask(f"values/file/{FILE}")}
    known = {row["id"]: row for row in await ask("metadata/all")}
    assert {i: row["name"] for i, row in known.items()} == handed_out and set(handed_out.values()) == set(extracted)
    for i, name in handed_out.items():
        assert await ask(f"metadata/detail/{i}") == await ask(f"metadata/detail/{i.upper()}") == known[i]
        if name.isprintable() and len(name) < 100:
            assert await ask(f"metadata/detail/{name}") == known[i]
    total, number = known[metadata_id("acme", "total")], known[metadata_id("acme", "invoice_number")]
    note = tag_id("acme", "delivery-note")
    assert (total["data_type"], total["tag_id"], total["tag_name"]) == ("number", note, "delivery-note")
    assert (number["data_type"], number["tag_id"], number["tag_name"]) == ("text", None, None)
    assert note in {t["id"] for t in await ask("tag/all")}, "no rule of ours names it, but a file has it"
    assert {d["name"] for d in (await ask(f"tag/detail/{note}"))["metadata"]} == {"total"}
    await ask(f"metadata/detail/{metadata_id('other', 'total')}", 404)


async def test_the_account(gateway: InProcess, ask: Any) -> None:
    ours = company_id("acme")
    assert await ask("account/companies") == [{"id": ours, "name": "acme"}]
    tags = await ask("tag/all")
    for tag in tags:
        Strict(tag).check({"guid": "id", "string": "name description"})
    for given in (ours, ours.upper(), "acme"):
        assert await ask(f"account/tags/{given}") == tags
    await ask(f"account/tags/{company_id('other')}", 404)
    who = await ask("tagshelf/who-am-i")
    Strict(who).check(WHO_TYPES)
    assert who["company_id"] == ours


async def test_the_webhook_is_flat_on_request(gateway: InProcess) -> None:
    cases: list[tuple[dict[str, Any], bool | None]] = [
        ({}, None), ({"flat": True}, True), ({"flat": "true"}, True), ({"flat": False}, None), ({"flat": 0}, None),
    ]  # fmt: skip
    async with gateway.http(**{"X-TagshelfAPI-Key": await gateway.key()}) as http:
        for body, _ in cases:
            answer = await http.post("/api/account/webhook", json={"url": "https://example.com/hook", **body})
            assert answer.status_code == 200
        refused = await http.post("/api/account/webhook", json={"url": "https://example.com/hook", "flat": "perhaps"})
        assert (refused.status_code, refused.json()["field"]) == (400, "flat")
    commands = [command for _, command in gateway.publisher.published]
    assert [c.flat for c in commands if isinstance(c, RegisterWebhook)] == [flat for _, flat in cases]


async def test_names_stay_without_their_job_and_go_with_their_tenant(gateway: InProcess, ask: Any) -> None:
    await gateway.store.transact(lambda c: project(c, *session(), created(JOB), *processed({"total": 3}, "delivery-note")))
    erased = JobErased(event_id="x", job_id=JOB, tenant_id="acme", occurred_at=AT)
    await gateway.store.transact(lambda c: project(c, erased))
    assert [d["name"] for d in await ask("metadata/all")] == ["total"] and await ask("values/tag/delivery-note") == []
    await gateway.store.transact(lambda c: tenant_erasures.erase_rows(c, "acme"))
    assert await gateway.store.read(lambda c: known_names.names(c, "acme", "metadata")) == set()


async def test_names_of_files_of_a_previous_release_are_known(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/i.db")
    await migrate(store, "ingest")

    def before(c: Connection) -> None:
        project(c, *session(), created(JOB), *processed({"total": 3, "b": None}, "delivery-note"))
        c.execute(text("INSERT INTO file_view (id, tenant_id, created_at, body) VALUES ('z', 'acme', 1.0, '{}')"))
        for later in ("known_name", "recycled_file", "erased_file", "letter_act", "worker_view"):
            c.execute(text(f"DROP TABLE {later}"))
        c.execute(text("UPDATE service_revision SET version_num = '0007'"))

    await store.transact(before)
    await migrate(store, "ingest")
    rows = await store.read(lambda c: c.execute(text("SELECT id, kind, name FROM known_name ORDER BY kind, name")).all())
    assert [tuple(r) for r in rows] == [
        (metadata_id("acme", "b"), "metadata", '"b"'),
        (metadata_id("acme", "total"), "metadata", '"total"'),
        (tag_id("acme", "delivery-note"), "tag", '"delivery-note"'),
    ]
    await store.close()
