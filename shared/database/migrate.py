"""Upgrades a database to the newest revision: forward only, adding only, in one transaction, one replica at a time.

Alembic keeps two lines of revisions: `shared/migrations` (inbox, outbox) and `services/<service>/migrations`.
A revision must be safe while the previous release still runs (`shared/README.md`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from shared.database.statements import exclusive, is_shared
from shared.database.store import Store
from shared.errors import Retry, Stop

log = logging.getLogger(__name__)
CONNECT_PATIENCE_S = 60.0
RUNTIME = Path(str(files("shared"))) / "migrations"
"""Revisions of the runtime tables, which every service has."""


async def migrate(store: Store, service: str) -> None:
    """Upgrade `store` for `service`. A database newer than this release is used as it is.

    Raises `Stop` for a database older than 0.3.0, and `Retry` when the database does not take the upgrade within a minute.
    """
    # Services and database may start at the same time, and a busy server may end the transaction.
    deadline = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        try:
            await store.prepare()
            await store.transact(lambda c: upgrade(c, {"runtime_revision": RUNTIME, "service_revision": folder_of(service)}))
            return
        except Retry:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


def folder_of(service: str) -> Path:
    """The folder with a service's revisions."""
    return Path(str(files(f"services.{service}"))) / "migrations"


def revisions(folder: Path) -> list[str]:
    """Revisions of a folder, oldest first. A file name begins with its revision: `0001_initial.py`."""
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))


def current(connection: Connection, line: str) -> str | None:
    """The revision that the database is at in a line; None before the first."""
    if not inspect(connection).has_table(line):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {line}")).scalar()
    return found


def upgrade(connection: Connection, lines: dict[str, Path]) -> None:
    """Apply the missing revisions of each line. An up-to-date database costs two reads and no import of Alembic."""
    exclusive(connection, "migrate")
    for line, folder in lines.items():
        known, at = revisions(folder), current(connection, line)
        if at == known[-1]:
            continue
        if inspect(connection).has_table("outbox"):
            raise Stop("old_database", "the database was made by a release before 0.3.0; `stageline reset` starts afresh")
        if at is not None and at not in known:
            # A newer release is being rolled out, or was rolled back. Revisions only add, so its tables serve this release.
            log.warning("the database is newer than this release", extra={"line": line, "revision": at, "known": known[-1]})
            continue
        _apply(connection, line, folder)


def _apply(connection: Connection, line: str, folder: Path) -> None:
    # A service with an up-to-date database starts faster and smaller without Alembic.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    if is_shared(connection):
        # Fail and try again rather than make other transactions wait behind this one.
        connection.execute(text("SET LOCAL lock_timeout = '3s'"))
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory(str(folder), version_locations=[str(folder)])
    environment = EnvironmentContext(config, script, fn=lambda rev, _: script._upgrade_revs("head", rev))
    with environment:
        environment.configure(connection=connection, version_table=line, transactional_ddl=False)
        environment.run_migrations()
