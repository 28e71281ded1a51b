"""Every SQL statement in the code names tables and columns that the models have, on both databases."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shared.database.statements import Statement, is_shared
from tests.conformance.conftest import Opener
from tests.conformance.test_migrations import MODELS

ROOT = Path(__file__).parents[2]
VERB = re.compile(r"(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH) ")
NAME = re.compile(r"(?<!:):(\w+)")
POSTGRESQL = re.compile(
    r"unnest\(|pg_|current_setting|hashtext|to_ts|to_reg|set_config|nextval|(?<!\*)FOR UPDATE(?!.*\*/)|= ANY\(|json_array_elements"
)
"""Words of statements that PostgreSQL alone runs."""
SQLITE = re.compile(r"\browid\b|\bMATCH\b|sqlite_|INTO search \(search")
"""Words of statements that SQLite alone runs."""
BUILT_AT_RUN_TIME = {
    "DELETE FROM {statement} = :e",
    "DELETE FROM {table} WHERE job_id = :j",
    "DELETE FROM {table} WHERE job_id = :job_id",
    "DELETE FROM {table} WHERE tenant_id = :t",
    "DELETE FROM {table} WHERE tenant_id = :t AND name = :n",
    "DELETE FROM {table} WHERE endpoint_id = :e AND event_id = :i",
    "DELETE FROM {t} WHERE file_id IN (SELECT value FROM [ids])",
    "DELETE FROM {t} WHERE job_id = :j",
    "INSERT INTO erasure_request (id, kind, tenant_id, by_user, reason, at) SELECT id, '{kind}', tenant_id, CAST(:u AS text), 'tenant erased', CAST(:at AS double precision) FROM {table} WHERE tenant_id = :t AND NOT EXISTS (SELECT 1 FROM erasure_request r WHERE r.id = {table}.id) ORDER BY id LIMIT :n ON CONFLICT DO NOTHING",
    "SELECT * FROM silo_flow WHERE tenant_id = :t AND {column} = :v",
    "SELECT * FROM (SELECT r.*, coalesce(w.attempts, 0) AS attempts, row_number() OVER (PARTITION BY r.{tenant} ORDER BY r.{order}, r.{key}) AS place FROM {table} r LEFT JOIN row_turn w ON w.kind = '{kind}' AND w.id = r.{key} WHERE {where} AND coalesce(w.next_at, 0) <= :now) chosen ORDER BY place, {order}, {key} LIMIT :n",
    "SELECT {columns}, body FROM {table} {where} ORDER BY {columns} LIMIT {PAGE}",
    "SELECT body FROM silo_entry WHERE tenant_id = :t AND {column} = :v",
    "SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND stage IN ({names}) LIMIT :n) x",
    "SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND {column} = :v LIMIT :n) x",
    "SELECT count(*) FROM (SELECT 1 FROM {select.tables} WHERE {' AND '.join(select.where)} LIMIT :limit) x",
    "SELECT id, body FROM {t} WHERE id IN (SELECT value FROM [ids])",
    "SELECT j.id, j.{column} AS place, j.body FROM {select.tables} WHERE {' AND '.join(select.where)} ORDER BY {first} {direction}, {second} {direction} LIMIT :limit",
    "SELECT version_num FROM {line}",
}
"""Statements that name a table or column by a variable of a function; other tests run them."""


def modules(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        if "migrations" not in path.parts and path.name != "__main__.py":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def statements(name: str) -> tuple[list[str], set[str]]:
    """The statements that a module holds as strings, and the templates of those that it builds at run time."""
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text())
    inner = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node
    }
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: list[str] = []
    built: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        first = node if isinstance(node, ast.Constant) else node.values[0]
        if not (isinstance(first, ast.Constant) and isinstance(first.value, str) and VERB.match(first.value)):
            continue
        try:
            found.append(eval(compile(ast.Expression(node), name, "eval"), vars(importlib.import_module(name))))
        except NameError:
            built.add(ast.unparse(node)[2:-1])
    return found, built


def explain(connection: Connection, words: str) -> None:
    """Let the database parse a statement and look its names up, without running it."""
    statement = Statement(f"EXPLAIN {words}")
    values: dict[str, Any] = dict.fromkeys(NAME.findall(words))
    values |= {name: "[]" for name in re.findall(r"\[(\w+)\]", words)}
    if is_shared(connection):
        connection.execute(text("SAVEPOINT before"))
        try:
            statement.run(connection, values)
        finally:
            connection.execute(text("ROLLBACK TO SAVEPOINT before"))
    else:
        statement.run(connection, values)


@pytest.mark.parametrize("service", MODELS)
async def test_statements_name_tables_and_columns_that_exist(opened: Opener, service: str) -> None:
    store = await opened(service)

    def check(connection: Connection) -> list[str]:
        other, faults = (SQLITE if is_shared(connection) else POSTGRESQL), []
        for name in (*modules(ROOT / "services" / service), *modules(ROOT / "shared")):
            for words in statements(name)[0]:
                if other.search(words) or (name == "shared.web.api_keys" and service not in ("ingest", "notifier")):
                    continue
                try:
                    explain(connection, words)
                except DBAPIError as error:
                    faults.append(f"{name}: {error.orig}: {words}")
        return faults

    assert await store.transact(check) == []


def test_what_is_built_at_run_time_is_known() -> None:
    names = [*modules(ROOT / "services"), *modules(ROOT / "shared")]
    assert set().union(*(statements(name)[1] for name in names)) == BUILT_AT_RUN_TIME
