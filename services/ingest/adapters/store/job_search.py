"""Jobs by what they are and what is in them, page by page. Two steps: which of the conditions is the rarest, then its index in order."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, text

from services.ingest.adapters.store.search_index import match_expression, ts_query
from shared.database.statements import is_shared

Record = dict[str, Any]
SAMPLE = 2000
"""A condition is counted no further than this: beyond it, it is common."""
TEXT_HITS = 5000
"""Files that a text search looks at, best first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search asks for. Times in Unix seconds. `terms` as in `job_term`, e.g. `tag:invoice`."""

    tenant: str
    stages: tuple[str, ...] = ()
    workflow: str | None = None
    terms: tuple[str, ...] = ()
    words: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    since_before: float | None = None
    """In its stage since before this time."""
    sort: Literal["-created_at", "created_at", "stage_since"] = "-created_at"
    after: tuple[float, str] | None = None
    """The last row of the page before."""


@dataclass
class _Query:
    where: list[str] = field(default_factory=list)
    values: Record = field(default_factory=dict)


def cursor_of(value: float, job_id: str) -> str:
    """Where the next page begins, as opaque text."""
    return base64.urlsafe_b64encode(json.dumps([value, job_id]).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, str]:
    """Inverse of `cursor_of`. Raises `ValueError`."""
    try:
        value, job_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(value), str(job_id)
    except (ValueError, TypeError, binascii.Error) as error:
        raise ValueError("it is none of ours") from error


def find(connection: Connection, wanted: Wanted, limit: int) -> tuple[list[Record], str | None]:
    """Records of a page, and the cursor of the next one or None."""
    driver = _rarest(connection, wanted)
    query = _conditions(connection, wanted, driver)
    column = "stage_since" if wanted.sort == "stage_since" else "created_at"
    down = wanted.sort.startswith("-")
    source = "d" if driver is not None else "j"
    place = "d.created_at, d.job_id" if driver is not None and column == "created_at" else f"j.{column}, j.id"
    first, second = place.split(", ")
    if wanted.after is not None:
        query.where.append(f"({first}, {second}) {'<' if down else '>'} (:v, :i)")
        query.values |= {"v": wanted.after[0], "i": wanted.after[1]}
    tables = "job_view j" + _index(connection, wanted, driver)
    if source == "d":
        tables = "job_term d CROSS JOIN job_view j"
        query.where.append("j.id = d.job_id")
    order = f"{first} {'DESC' if down else 'ASC'}, {second} {'DESC' if down else 'ASC'}"
    sql = (
        f"SELECT j.id, j.{column} AS place, j.body FROM {tables} WHERE {' AND '.join(query.where)} ORDER BY {order} LIMIT :limit"
    )
    rows = connection.execute(text(sql), {**query.values, "limit": limit + 1}).all()
    page = [json.loads(r.body) for r in rows[:limit]]
    return page, cursor_of(rows[limit - 1].place, rows[limit - 1].id) if len(rows) > limit else None


def count(connection: Connection, wanted: Wanted, most: int) -> int:
    """How many there are, counted no further than `most`."""
    driver = _rarest(connection, wanted)
    query = _conditions(connection, wanted, driver)
    tables = "job_view j" + _index(connection, wanted, driver)
    if driver is not None:
        tables = "job_term d CROSS JOIN job_view j"
        query.where.append("j.id = d.job_id")
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {tables} WHERE {' AND '.join(query.where)} LIMIT :limit) x"
    return int(connection.execute(text(sql), {**query.values, "limit": most}).scalar_one())


def _rarest(connection: Connection, wanted: Wanted) -> str | None:
    """The rarest of the terms, if it is rare at all or there is nothing else to go by; None for the jobs' own columns."""
    counted = text("SELECT count(*) FROM (SELECT 1 FROM job_term WHERE tenant_id = :t AND term = :k LIMIT :n) x")
    counts = {k: connection.execute(counted, {"t": wanted.tenant, "k": k, "n": SAMPLE}).scalar_one() for k in wanted.terms}
    if not counts or wanted.words is not None:
        return None
    rarest = min(counts, key=lambda k: counts[k])
    if counts[rarest] < SAMPLE or not (wanted.stages or wanted.workflow):
        return rarest
    return None if _few(connection, wanted) else rarest


def _few(connection: Connection, wanted: Wanted) -> bool:
    conditions = [("stage", s) for s in wanted.stages] + ([("workflow", wanted.workflow)] if wanted.workflow else [])
    for column, value in conditions:
        sql = text(f"SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND {column} = :v LIMIT :n) x")
        if connection.execute(sql, {"t": wanted.tenant, "v": value, "n": SAMPLE}).scalar_one() < SAMPLE:
            return True
    return False


def _index(connection: Connection, wanted: Wanted, driver: str | None) -> str:
    """SQLite knows no frequencies: told which index, it reads in order instead of sorting everything."""
    if is_shared(connection) or driver is not None or wanted.words is not None:
        return ""
    if wanted.sort == "stage_since":
        return " INDEXED BY job_view_since"
    if len(wanted.stages) == 1 and not (wanted.workflow and _rare_workflow(connection, wanted)):
        return " INDEXED BY job_view_stage"
    return " INDEXED BY job_view_workflow" if wanted.workflow else " INDEXED BY job_view_created"


def _rare_workflow(connection: Connection, wanted: Wanted) -> bool:
    sql = text("SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND workflow = :v LIMIT :n) x")
    return int(connection.execute(sql, {"t": wanted.tenant, "v": wanted.workflow, "n": SAMPLE}).scalar_one()) < SAMPLE


def _conditions(connection: Connection, wanted: Wanted, driver: str | None) -> _Query:
    query = _Query(["j.tenant_id = :t"], {"t": wanted.tenant})
    if driver is not None:
        query.where += ["d.tenant_id = :t", "d.term = :driver"]
        query.values["driver"] = driver
    if wanted.stages:
        names = [f"s{n}" for n in range(len(wanted.stages))]
        query.where.append(f"j.stage = :{names[0]}" if len(names) == 1 else f"j.stage IN ({', '.join(f':{n}' for n in names)})")
        query.values |= dict(zip(names, wanted.stages, strict=True))
        if driver is not None and len(names) == 1:  # of several, PostgreSQL expects so little that it reads a whole index instead
            query.where.append(_known(connection, "job_view_stage", "y.stage = :s0"))
    if wanted.workflow is not None and driver is not None:
        query.where.append(_known(connection, "job_view_workflow", "y.workflow = :workflow"))
    for n, term in enumerate(t for t in wanted.terms if t != driver):
        # All terms of a job have its time: beside another term it is one look into the same index.
        same = "x.created_at = d.created_at AND x.job_id = d.job_id" if driver is not None else "x.job_id = j.id"
        query.where.append(f"EXISTS (SELECT 1 FROM job_term x WHERE x.tenant_id = :t AND x.term = :k{n} AND {same})")
        query.values[f"k{n}"] = term
    # The term's own copy of the time bounds what is read of its index.
    made = "d" if driver is not None else "j"
    plain = (
        ("workflow", "j.workflow = :workflow", wanted.workflow), ("ca", f"{made}.created_at >= :ca", wanted.created_after),
        ("cb", f"{made}.created_at < :cb", wanted.created_before), ("sb", "j.stage_since < :sb", wanted.since_before),
    )  # fmt: skip
    for name, condition, value in plain:
        if value is not None:
            query.where.append(condition)
            query.values[name] = value
    if wanted.words is not None:
        _words(connection, wanted.words, query)
    return query


def _known(connection: Connection, index: str, condition: str) -> str:
    """A job's own column, asked of its index alone, into which the term's copy of the time leads: of the jobs that do not fit, no row is
    read. Where a term leads to twenty thousand of them, reading those rows took most of the time."""
    told = "" if is_shared(connection) else f" INDEXED BY {index}"
    same = "y.created_at = d.created_at AND y.id = d.job_id"
    return f"EXISTS (SELECT 1 FROM job_view y{told} WHERE y.tenant_id = :t AND {condition} AND {same})"


def _words(connection: Connection, words: str, query: _Query) -> None:
    shared = is_shared(connection)
    expression = ts_query(words) if shared else match_expression(words)
    if expression is None:
        query.where.append("1 = 0")
        return
    files = (
        "SELECT file_id FROM search, to_tsquery('simple', CAST(:e AS text)) q WHERE tenant_id = :t AND words @@ q LIMIT :hits"
        if shared
        else "SELECT file_id FROM search WHERE search MATCH :e AND tenant_id = :t LIMIT :hits"
    )
    query.where.append(f"j.id IN (SELECT job_id FROM file_view WHERE id IN ({files}))")
    query.values |= {"e": expression, "hits": TEXT_HITS}
