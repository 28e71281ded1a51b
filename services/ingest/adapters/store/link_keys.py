"""The secret of this installation from which the keys of short-lived links are made."""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlmodel import Field, SQLModel


class LinkKeyRow(SQLModel, table=True):
    """One row, which the first process that makes a link enters."""

    __tablename__ = "link_key"
    id: int = Field(primary_key=True)
    secret: str


MODELS: tuple[type[SQLModel], ...] = (LinkKeyRow,)
_ENTER = text("INSERT INTO link_key (id, secret) VALUES (1, :s) ON CONFLICT DO NOTHING")
_SECRET = text("SELECT secret FROM link_key WHERE id = 1")


def link_secret(connection: Connection) -> str | None:
    """The secret; None while there is none."""
    found: str | None = connection.execute(_SECRET).scalar()
    return found


def enter_link_secret(connection: Connection, secret: str) -> str:
    """Enter `secret` unless there is one; returns the one that counts."""
    connection.execute(_ENTER, {"s": secret})
    return str(connection.execute(_SECRET).scalar_one())
