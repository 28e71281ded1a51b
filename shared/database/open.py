"""Opens the store behind a URL."""

from __future__ import annotations

from sqlalchemy.engine import make_url

from shared.database.sqlite import SqliteStore
from shared.database.store import Store
from shared.errors import Stop


def open_store(url: str) -> Store:
    """The store behind a SQLAlchemy URL: `sqlite:///…` or `postgresql+asyncpg://…?schema=…`. Raises `Stop` for another."""
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return SqliteStore(parsed)
    if kind == "postgresql":
        # Services on SQLite need neither asyncpg nor greenlet.
        from shared.database.postgres import PostgresStore

        return PostgresStore(parsed)
    raise Stop("unsupported_database", f"{kind}: sqlite and postgresql are supported")
