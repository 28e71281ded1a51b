"""Users of the services in the database: each owns its schema, and none sees another's."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from cli.local.database_setup import USER_PREFIX, set_up
from shared.database.migrate import migrate
from shared.database.open import open_store
from shared.settings import Settings

PASSWORDS = {service: f"{service:x<30}" for service in ("ingest", "session", "job_orchestrator", "notifier")}


def url_of(server: str, service: str) -> str:
    return make_url(server).set(username=USER_PREFIX + service, password=PASSWORDS[service]).render_as_string(hide_password=False)


async def test_each_service_owns_its_schema_and_sees_no_other(postgres_url: str) -> None:
    administrator = await asyncpg.connect(postgres_url)
    await administrator.execute("DROP DATABASE IF EXISTS users")
    await administrator.execute("CREATE DATABASE users")
    await administrator.close()
    server = make_url(postgres_url).set(database="users").render_as_string(hide_password=False)
    # A deployment of an older version: the superuser owns everything.
    old = open_store(Settings(database_url=server).database_for("session"))
    await migrate(old, "session")
    await old.close()
    for _ in range(2):
        await set_up(server, None, PASSWORDS)
    for service in PASSWORDS:
        store = open_store(Settings(database_url=url_of(server, service)).database_for(service))
        await migrate(store, service)
        assert await store.read(lambda connection: connection.execute(text("SELECT count(*) FROM outbox_batch")).scalar()) == 0
        await store.close()
    thief = await asyncpg.connect(url_of(server, "notifier"))
    try:
        for statement in (
            "SELECT * FROM session.outbox_batch", "INSERT INTO session.outbox_batch DEFAULT VALUES", "DROP SCHEMA ingest CASCADE", "CREATE SCHEMA mine",
            "CREATE TABLE public.mine (a int)", "CREATE TABLE ingest.mine (a int)", "CREATE ROLE another", "SELECT * FROM pg_authid",
            "SET ROLE stageline_ingest",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await thief.execute(statement)
    finally:
        await thief.close()
