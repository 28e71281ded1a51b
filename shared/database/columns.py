"""Columns as Alembic revisions spell them. Applied revisions rely on these functions, so what one returns never changes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def string(name: str, nullable: bool = False) -> sa.Column[str]:
    """A text of any length."""
    return sa.Column(name, sa.String(), nullable=nullable)


def binary(name: str) -> sa.Column[bytes]:
    """Bytes of any number."""
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def number(name: str, nullable: bool = False) -> sa.Column[float]:
    """A double, e.g. a time in Unix seconds."""
    return sa.Column(name, sa.Float(), nullable=nullable)


def integer(name: str, nullable: bool = False) -> sa.Column[int]:
    """32 bits on PostgreSQL."""
    return sa.Column(name, sa.Integer(), nullable=nullable)


def big_integer(name: str, nullable: bool = False) -> sa.Column[int]:
    """64 bits."""
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def counted_id(name: str) -> sa.Column[int]:
    """A primary key that the database counts: `BIG_ID` of `shared/database/store.py`."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False)


def flag(name: str) -> sa.Column[bool]:
    """True or false."""
    return sa.Column(name, sa.Boolean(), nullable=False)


def only_where(condition: str) -> dict[str, Any]:
    """Options of a partial index: it holds the rows that meet `condition`, on both databases."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
