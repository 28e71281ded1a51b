"""Revisions build what the models declare, on both databases, and only go forward."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, text

from shared.database.migrate import RUNTIME, folder_of, migrate, revisions
from shared.database.open import open_store
from shared.database.statements import is_shared
from shared.database.store import RUNTIME_TABLES, table_of
from shared.errors import Stop
from shared.settings import Settings
from tests.conformance.conftest import Opener
from tests.eventually import eventually

MODELS = {
    "session": "adapters.sql_store",
    "job_orchestrator": "adapters.sql_store",
    "notifier": "adapters.sql_store",
    "ingest": "schema",
}
NOT_IN_MODELS = ("search", "runtime_revision", "service_revision")
"""The full-text table differs by database (`test_the_full_text_table`); the others belong to Alembic."""


def declared(service: str) -> MetaData:
    """The runtime's and the service's tables as the models declare them."""
    models = importlib.import_module(f"services.{service}.{MODELS[service]}").MODELS
    metadata = MetaData()
    for table in (*RUNTIME_TABLES, *map(table_of, models)):
        table.to_metadata(metadata)
    return metadata


@pytest.mark.parametrize("service", MODELS)
async def test_autogenerate_finds_nothing_to_change(opened: Opener, service: str) -> None:
    store = await opened(service)
    await migrate(store, service)

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _: object) -> bool:
            return not (kind == "table" and (name or "").startswith(NOT_IN_MODELS))

        options = {"include_name": ours, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), declared(service)))

    assert await store.read(differences) == []


def catalogue(connection: Connection) -> list[tuple[Any, ...]]:
    """Tables, columns in order and indexes, as the database describes them: rows of (kind, table, name, …)."""
    if not is_shared(connection):
        # The whole statement: columns, types, keys, WITHOUT ROWID, and the WHERE of a partial index.
        found = connection.execute(text("SELECT type, tbl_name, name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
        return sorted((*row[:3], constraints_last(re.sub(r"\s+", "", row[3]))) for row in found)
    schema = connection.execute(text("SELECT current_schema()")).scalar()
    columns = connection.execute(
        text(
            "SELECT 'column', table_name, CAST(ordinal_position AS text), column_name, udt_name, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = current_schema()"
        )
    ).all()
    indexes = connection.execute(
        text("SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()")
    )
    return sorted(tuple(str(value).replace(f"{schema}.", "") for value in row) for row in (*columns, *indexes))


def constraints_last(statement: str) -> str:
    """A statement of SQLite without spaces, its table's constraints after its columns: SQLite writes added columns after both."""
    key = re.search(r",PRIMARYKEY\([^)]*\)(?=,)", statement)
    if key is None:
        return statement
    return re.sub(r"\)(WITHOUTROWID)?$", lambda end: f"{key[0]}{end[0]}", statement.replace(key[0], "", 1))


def made_of_models(connection: Connection, metadata: MetaData) -> list[tuple[Any, ...]]:
    """The catalogue of an empty database after `create_all`."""
    if not is_shared(connection):
        with create_engine("sqlite://").begin() as empty:
            metadata.create_all(empty)
            return catalogue(empty)
    schema = f"{connection.execute(text('SELECT current_schema()')).scalar()}_models"
    connection.execute(text(f"CREATE SCHEMA {schema}"))
    connection.execute(text(f"SET LOCAL search_path TO {schema}"))
    metadata.create_all(connection)
    found = catalogue(connection)
    connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    return found


@pytest.mark.parametrize("service", MODELS)
async def test_revisions_and_models_make_the_same_database(opened: Opener, service: str) -> None:
    """Also what autogenerate does not compare: WITHOUT ROWID, conditions of partial indexes, primary keys, order of columns."""
    store = await opened(service)
    by_models = await store.transact(lambda c: made_of_models(c, declared(service)))
    by_revisions = await store.read(catalogue)
    assert by_models and [row for row in by_revisions if not row[1].startswith(NOT_IN_MODELS)] == by_models


async def test_the_full_text_table(opened: Opener) -> None:
    store = await opened("ingest")
    found = {
        (kind, name): " ".join(map(str, rest)) for kind, table, name, *rest in await store.read(catalogue) if table == "search"
    }
    if store.shared:
        assert {name for kind, name in found if kind == "index"} == {"search_pkey", "search_words", "search_tenant"}
        assert "USING gin (words)" in found["index", "search_words"] and "btree (tenant_id)" in found["index", "search_tenant"]
        columns = [found["column", str(n)].split()[:3] for n in range(1, 6)]
        plain = [[name, "varchar", "NO"] for name in ("file_id", "tenant_id", "file_name", "body")]
        assert columns == [*plain, ["words", "tsvector", "NO"]]
    else:
        [statement] = found.values()
        assert statement.lower() == (
            "createvirtualtablesearchusingfts5(file_idunindexed,tenant_idunindexed,file_name,body,"
            "tokenize='unicode61remove_diacritics2')"
        )
        options = dict(await store.read(lambda c: c.execute(text("SELECT k, v FROM search_config")).all()))
        assert ("secure-delete" in options) == (sqlite3.sqlite_version_info >= (3, 42))


async def test_a_newer_database_is_used_as_it_is(opened: Opener) -> None:
    store = await opened("session")
    await store.transact(lambda c: c.execute(text("UPDATE service_revision SET version_num = '9999'")) and None)
    await migrate(store, "session")
    assert await store.read(lambda c: c.execute(text("SELECT version_num FROM service_revision")).scalar()) == "9999"


@pytest.mark.parametrize("revision", [None, "0003"])
async def test_a_database_of_a_release_before_0_3_0_is_refused(opened: Opener, revision: str | None) -> None:
    store = await opened("session")

    def older(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE outbox (id integer)"))
        change = "DELETE FROM runtime_revision" if revision is None else "UPDATE runtime_revision SET version_num = :r"
        connection.execute(text(change), {"r": revision} if revision else {})

    await store.transact(older)
    with pytest.raises(Stop, match="stageline reset"):
        await migrate(store, "session")


NEW_JOB = text("INSERT INTO job (id, workflow_name, workflow_version, body) VALUES (:id, 'w', 1, :body)")
NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{new}"
down_revision = "{newest}"


def upgrade():
    op.add_column("job", sa.Column("of_tomorrow", sa.String(), nullable=True))
    op.create_index("job_of_tomorrow", "job", ["of_tomorrow"])
"""


async def test_a_revision_is_applied_while_others_write_and_everybody_migrates_at_once(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [await opened("job_orchestrator") for _ in range(3)]
    shutil.copytree(folder_of("job_orchestrator"), tmp_path / "next")
    newest = revisions(folder_of("job_orchestrator"))[-1]
    new = f"{int(newest) + 1:04}"
    (tmp_path / "next" / f"{new}_next.py").write_text(NEXT.format(new=new, newest=newest))
    monkeypatch.setattr("shared.database.migrate.folder_of", lambda service: tmp_path / "next")
    written, stopped = 0, asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not stopped.is_set():
            values = {"id": f"job-{written}", "body": "{}"}
            await stores[0].transact(lambda c, v=values: c.execute(NEW_JOB, v) and None)  # type: ignore[misc]
            written += 1

    async def some(count: int) -> bool:
        return written >= count

    writing = asyncio.create_task(write())
    await eventually(lambda: some(20), 20)
    # On SQLite a file has one process; its migration runs before the first write.
    await asyncio.gather(*(migrate(store, "job_orchestrator") for store in (stores[1:] if stores[0].shared else stores[:1])))
    reached = written
    await eventually(lambda: some(reached + 20), 20)
    stopped.set()
    await writing
    assert await stores[0].read(lambda c: c.execute(text("SELECT version_num FROM service_revision")).scalar()) == new
    assert (
        await stores[0].read(lambda c: c.execute(text("SELECT count(*) FROM job WHERE of_tomorrow IS NULL")).scalar()) == written
    )


FORBIDDEN = {"drop_table", "drop_column", "rename_table", "alter_column", "drop_constraint"}
"""The previous release still runs while a revision is applied, and would miss what these take away."""


@pytest.mark.parametrize("folder", [RUNTIME, *map(folder_of, MODELS)], ids=lambda f: f.parent.name)
def test_no_revision_takes_anything_away_or_goes_back(folder: Path) -> None:
    numbers = revisions(folder)
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]
    for path in folder.glob("[0-9]*_*.py"):
        tree = ast.parse(path.read_text())
        calls = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
        assert not calls & FORBIDDEN, f"{path.name}: {calls & FORBIDDEN}"
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "downgrade"]


async def test_replicas_that_start_at_once_make_one_schema(postgres_url: str) -> None:
    url = Settings(database_url=f"{postgres_url}?schema=at_once").database_for("session")
    stores = [open_store(url) for _ in range(12)]
    try:
        await asyncio.gather(*(migrate(store, "session") for store in stores))
    finally:
        await asyncio.gather(*(store.close() for store in stores))
