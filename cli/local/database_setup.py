"""Gives each service a user of its own in the database, who owns one schema and sees no other. Safe to repeat.

`python -m cli.local.database_setup DIR` does so for docker-compose.yml at each start, with the passwords that `cli.local.keys` made in DIR.
The schemas of an older deployment, and all in them, are handed over to their new owners.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from cli.local.keys import DATABASE_SERVICES, database_files, superuser_file
from shared.errors import Stop
from shared.settings import Settings, read_secret

USER_PREFIX = "stageline_"
"""A service's user is this and the service's name."""
_PASSWORD = re.compile(r"[A-Za-z0-9_-]{20,200}")
_OWNED = """
SELECT format('ALTER %s %I.%I OWNER TO %I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
    WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, n.nspname, c.relname, $2::text)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_get_userbyid(c.relowner) <> $2
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
"""
"""Statements that hand over tables, views and sequences. A sequence of a column goes with its table."""


async def set_up(url: str, password: str | None, passwords: Mapping[str, str]) -> None:
    """Create or change the user of each service in `passwords` (service → password), with its schema, as the superuser of `url`.

    Raises `Stop` for a password that SQL would have to quote, and errors of asyncpg.
    """
    connection = await asyncpg.connect(url, password=password)
    try:
        async with connection.transaction():
            database = await connection.fetchval("SELECT quote_ident(current_database())")
            await connection.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
            await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service, secret in passwords.items():
                await _give_schema(connection, database, service, secret)
    finally:
        await connection.close()


async def _give_schema(connection: asyncpg.Connection, database: str, service: str, secret: str) -> None:
    if not _PASSWORD.fullmatch(secret):
        raise Stop("database_user", f"{service}: its password has other characters than letters, digits, - and _")
    user = USER_PREFIX + service
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", user)
    rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    await connection.execute(f"{'ALTER' if known else 'CREATE'} ROLE \"{user}\" {rights} PASSWORD '{secret}'")
    await connection.execute(f'GRANT CONNECT, TEMPORARY ON DATABASE {database} TO "{user}"')
    await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{service}"')
    await connection.execute(f'ALTER SCHEMA "{service}" OWNER TO "{user}"')
    await connection.execute(f'REVOKE ALL ON SCHEMA "{service}" FROM PUBLIC')
    for row in await connection.fetch(_OWNED, service, user):
        await connection.execute(row[0])


def main(folder: Path) -> None:
    """Set up the database of `STAGELINE_DATABASE_URL` with the passwords in `folder`."""
    settings = Settings()
    if settings.database_url is None:
        raise Stop("database_user", "STAGELINE_DATABASE_URL names no database")
    files = database_files(folder)
    passwords = {service: read_secret(files[service]) for service in DATABASE_SERVICES}
    asyncio.run(set_up(settings.database_url.get_secret_value(), read_secret(superuser_file(folder)), passwords))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
