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
    r"unnest\(|pg_|hashtext|to_ts|to_reg|set_config|nextval|(?<!\*)FOR UPDATE(?!.*\*/)|= ANY\(|json_array_elements"
)
"""Words of statements that PostgreSQL alone runs."""
SQLITE = re.compile(r"\browid\b|\bMATCH\b|sqlite_|INTO search \(search")
"""Words of statements that SQLite alone runs."""
BUILT_AT_RUN_TIME = {
    "services.ingest.adapters.store.erasures": 2, "services.ingest.adapters.store.job_search": 3,
    "services.ingest.adapters.store.quotas": 1, "services.ingest.adapters.store.read_model": 1,
    "services.ingest.dialects.alfred.jobs": 1, "services.ingest.dialects.invopop.store": 2,
    "services.ingest.dialects.v1.tags": 1, "services.job_orchestrator.adapters.sql_store": 1,
    "services.notifier.adapters.http": 1, "services.notifier.adapters.sql_store": 1, "shared.database.migrate": 1,
}  # fmt: skip
"""Statements that name a table or column by a variable of a function; other tests run them."""


def modules(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        if "migrations" not in path.parts and path.name != "__main__.py":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def statements(name: str) -> tuple[list[str], int]:
    """The statements that a module holds as strings, and how many more it builds at run time."""
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text())
    inner = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node
    }
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found, built = [], 0
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        first = node if isinstance(node, ast.Constant) else node.values[0]
        if not (isinstance(first, ast.Constant) and isinstance(first.value, str) and VERB.match(first.value)):
            continue
        try:
            found.append(eval(compile(ast.Expression(node), name, "eval"), vars(importlib.import_module(name))))
        except NameError:
            built += 1
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
    assert {name: built for name in names if (built := statements(name)[1])} == BUILT_AT_RUN_TIME
