"""Brings a database up to the newest revision: forward only, adding only, one transaction, one replica at a time.

Revisions are Alembic's, in two lines of their own: `shared/migrations` (inbox, outbox) and `services/<service>/migrations`.
The rule for a revision is in `shared/README.md`: it must be safe while the release before it is still running.
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
"""Revisions of what every service keeps: inbox and outbox."""


async def migrate(store: Store, service: str) -> None:
    """Upgrade `store` for `service`. Raises `Stop` when the database is older than all releases. One newer than this release is fine."""
    await _reachable(store)
    await store.transact(lambda c: upgrade(c, {"runtime_revision": RUNTIME, "service_revision": folder_of(service)}))


async def _reachable(store: Store) -> None:
    # With patience, as for Kafka: a database that is not there yet is waited for, not crashed on.
    deadline = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        try:
            return await store.prepare()
        except Retry:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


def folder_of(service: str) -> Path:
    """Where the revisions of a service lie."""
    return Path(str(files(f"services.{service}"))) / "migrations"


def revisions(folder: Path) -> list[str]:
    """All revisions of a folder, oldest first; a file is named after its revision: `0001_initial.py`."""
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))


def current(connection: Connection, line: str) -> str | None:
    """The revision that the database is at."""
    if not inspect(connection).has_table(line):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {line}")).scalar()
    return found


def upgrade(connection: Connection, lines: dict[str, Path]) -> None:
    """Apply what is missing of each line. A database that is up to date costs two reads, and no import of Alembic."""
    exclusive(connection, "migrate")
    for line, folder in lines.items():
        known, at = revisions(folder), current(connection, line)
        if at == known[-1]:
            continue
        if at is not None and at not in known:
            # A newer release is being rolled out, or was rolled back: revisions only ever add, so its tables serve us too.
            log.warning("the database is newer than this release", extra={"line": line, "revision": at, "known": known[-1]})
            continue
        if at is None and line == "runtime_revision" and inspect(connection).has_table("outbox"):
            raise Stop("old_database", "the database was made before the first release; `stageline reset` starts afresh")
        _apply(connection, line, folder)


def _apply(connection: Connection, line: str, folder: Path) -> None:
    # Imported here: a service whose database is up to date starts faster and smaller without.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    if is_shared(connection):
        # Better to fail and be tried again than to queue everybody behind us.
        connection.execute(text("SET LOCAL lock_timeout = '3s'"))
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory(str(folder), version_locations=[str(folder)])
    environment = EnvironmentContext(config, script, fn=lambda rev, _: script._upgrade_revs("head", rev))
    with environment:
        environment.configure(connection=connection, version_table=line, transactional_ddl=False)
        environment.run_migrations()
