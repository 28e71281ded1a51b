"""Revisions build what the models say, on both databases, and only ever go forward."""

from __future__ import annotations

import ast
import asyncio
import importlib
import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text

from shared.database.migrate import RUNTIME, folder_of, migrate, revisions
from shared.database.store import RUNTIME_TABLES, table_of
from shared.errors import Stop
from tests.conformance.conftest import Opener
from tests.eventually import eventually

MODELS = {
    "session": "adapters.sql_store",
    "job_orchestrator": "adapters.sql_store",
    "notifier": "adapters.sql_store",
    "ingest": "schema",
}
NOT_IN_MODELS = ("search", "runtime_revision", "service_revision")
"""Full-text tables differ by database and are written in SQL; the others are Alembic's own."""


@pytest.mark.parametrize("service", MODELS)
async def test_the_revisions_build_what_the_models_say(opened: Opener, service: str) -> None:
    store = await opened(service)
    await migrate(store, service)
    models = importlib.import_module(f"services.{service}.{MODELS[service]}").MODELS
    metadata = MetaData()
    for table in (*RUNTIME_TABLES, *map(table_of, models)):
        table.to_metadata(metadata)

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _: object) -> bool:
            return not (kind == "table" and (name or "").startswith(NOT_IN_MODELS))

        options = {"include_name": ours, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert await store.read(differences) == []


async def test_a_newer_database_is_used_as_it_is(opened: Opener) -> None:
    store = await opened("session")
    await store.transact(lambda c: c.execute(text("UPDATE service_revision SET version_num = '9999'")) and None)
    await migrate(store, "session")
    assert await store.read(lambda c: c.execute(text("SELECT version_num FROM service_revision")).scalar()) == "9999"


async def test_a_database_from_before_the_first_release_is_refused(opened: Opener) -> None:
    store = await opened("session")
    await store.transact(lambda c: c.execute(text("DROP TABLE runtime_revision")) and None)
    with pytest.raises(Stop, match="stageline reset"):
        await migrate(store, "session")


NEW_JOB = text("INSERT INTO job (id, workflow_name, workflow_version, body) VALUES (:id, 'w', 1, :body)")


async def test_a_revision_is_applied_while_others_write_and_everybody_migrates_at_once(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(folder_of("job_orchestrator") / "0001_initial.py", first)
    with monkeypatch.context() as patch:
        patch.setattr("shared.database.migrate.folder_of", lambda service: first)
        stores = [await opened("job_orchestrator") for _ in range(3)]
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
    assert (
        await stores[0].read(lambda c: c.execute(text("SELECT version_num FROM service_revision")).scalar())
        == revisions(folder_of("job_orchestrator"))[-1]
    )
    assert await stores[0].read(lambda c: c.execute(text("SELECT count(*) FROM job")).scalar()) == written


FORBIDDEN = {"drop_table", "drop_column", "rename_table", "alter_column", "drop_constraint"}
"""The release before still runs while a revision is applied, and would miss what these take away."""


@pytest.mark.parametrize("folder", [RUNTIME, *map(folder_of, MODELS)], ids=lambda f: f.parent.name)
def test_no_revision_takes_anything_away_or_goes_back(folder: Path) -> None:
    numbers = revisions(folder)
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]
    for path in folder.glob("[0-9]*_*.py"):
        tree = ast.parse(path.read_text())
        calls = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
        assert not calls & FORBIDDEN, f"{path.name}: {calls & FORBIDDEN}"
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "downgrade"]
