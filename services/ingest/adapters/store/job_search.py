"""Searches jobs by their columns, terms and texts, page by page.

A search first finds its rarest condition by counting, then reads that condition's index in the order of the result.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from services.ingest.adapters.store.search_index import match_expression, ts_query
from services.ingest.core.job_filter import JobQuery, encode_cursor
from shared.database.statements import is_shared

Record = dict[str, Any]
SAMPLE = 2000
"""Counting stops here: a condition with as many rows is common."""
TEXT_HITS = 5000
"""Most files that a text search considers, best matches first."""


@dataclass
class _Select:
    """Parts of the SQL statement. `d` is the driving term's rows (if there is one), `j` the jobs."""

    tables: str
    where: list[str] = field(default_factory=list)
    values: Record = field(default_factory=dict)


def find(connection: Connection, query: JobQuery, limit: int) -> tuple[list[Record], str | None]:
    """At most `limit` job records, and the cursor of the next page or None."""
    driver = _driving_term(connection, query)
    select = _select(connection, query, driver)
    column = "stage_since" if query.sort == "stage_since" else "created_at"
    # The term's copy of the creation time has the order of the result, so its index is read no further than the page.
    first, second = ("d.created_at", "d.job_id") if driver is not None and column == "created_at" else (f"j.{column}", "j.id")
    direction, beyond = ("DESC", "<") if query.sort.startswith("-") else ("ASC", ">")
    if query.after is not None:
        select.where.append(f"({first}, {second}) {beyond} (:v, :i)")
        select.values |= {"v": query.after[0], "i": query.after[1]}
    sql = (
        f"SELECT j.id, j.{column} AS place, j.body FROM {select.tables} WHERE {' AND '.join(select.where)} "
        f"ORDER BY {first} {direction}, {second} {direction} LIMIT :limit"
    )
    rows = connection.execute(text(sql), {**select.values, "limit": limit + 1}).all()
    page = [json.loads(r.body) for r in rows[:limit]]
    return page, encode_cursor(rows[limit - 1].place, rows[limit - 1].id) if len(rows) > limit else None


def count(connection: Connection, query: JobQuery, most: int) -> int:
    """The number of jobs that fit. Counting stops at `most`."""
    select = _select(connection, query, _driving_term(connection, query))
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {select.tables} WHERE {' AND '.join(select.where)} LIMIT :limit) x"
    return int(connection.execute(text(sql), {**select.values, "limit": most}).scalar_one())


def _driving_term(connection: Connection, query: JobQuery) -> str | None:
    """The rarest term, when it is rare or no column is given; None when the jobs' own columns lead."""
    counted = text("SELECT count(*) FROM (SELECT 1 FROM job_term WHERE tenant_id = :t AND term = :k LIMIT :n) x")
    counts = {k: connection.execute(counted, {"t": query.tenant, "k": k, "n": SAMPLE}).scalar_one() for k in query.terms}
    if not counts or query.words is not None:
        return None
    rarest = min(counts, key=lambda k: counts[k])
    if counts[rarest] < SAMPLE or not (query.stages or query.workflow):
        return rarest
    columns = [("stage", s) for s in query.stages] + ([("workflow", query.workflow)] if query.workflow else [])
    return None if any(_is_rare(connection, query.tenant, column, value) for column, value in columns) else rarest


def _is_rare(connection: Connection, tenant: str, column: str, value: str) -> bool:
    sql = text(f"SELECT count(*) FROM (SELECT 1 FROM job_view WHERE tenant_id = :t AND {column} = :v LIMIT :n) x")
    return int(connection.execute(sql, {"t": tenant, "v": value, "n": SAMPLE}).scalar_one()) < SAMPLE


def _select(connection: Connection, query: JobQuery, driver: str | None) -> _Select:
    select = _Select("job_view j" + _index_hint(connection, query, driver), ["j.tenant_id = :t"], {"t": query.tenant})
    if driver is not None:
        select.tables = "job_term d CROSS JOIN job_view j"
        select.where += ["j.id = d.job_id", "d.tenant_id = :t", "d.term = :driver"]
        select.values["driver"] = driver
    _add_columns(connection, select, query, driver)
    for n, term in enumerate(t for t in query.terms if t != driver):
        # All terms of a job have the same time, so beside a driving term this is one probe of the same index.
        same = "x.created_at = d.created_at AND x.job_id = d.job_id" if driver is not None else "x.job_id = j.id"
        select.where.append(f"EXISTS (SELECT 1 FROM job_term x WHERE x.tenant_id = :t AND x.term = :k{n} AND {same})")
        select.values[f"k{n}"] = term
    if query.words is not None:
        _add_words(connection, select, query.words)
    return select


def _index_hint(connection: Connection, query: JobQuery, driver: str | None) -> str:
    """SQLite has no statistics here. With a hint it reads an index in order; without one it may sort all jobs."""
    if is_shared(connection) or driver is not None or query.words is not None or query.ids is not None:
        return ""
    if query.sort == "stage_since":
        return " INDEXED BY job_view_since"
    if len(query.stages) == 1 and not (query.workflow and _is_rare(connection, query.tenant, "workflow", query.workflow)):
        return " INDEXED BY job_view_stage"
    return " INDEXED BY job_view_workflow" if query.workflow else " INDEXED BY job_view_created"


def _add_columns(connection: Connection, select: _Select, query: JobQuery, driver: str | None) -> None:
    if query.stages:
        names = [f"s{n}" for n in range(len(query.stages))]
        select.where.append(f"j.stage = :{names[0]}" if len(names) == 1 else f"j.stage IN ({', '.join(f':{n}' for n in names)})")
        select.values |= dict(zip(names, query.stages, strict=True))
        # With several stages PostgreSQL underestimates the rows and scans a whole index instead.
        if driver is not None and len(names) == 1:
            select.where.append(_index_probe(connection, "job_view_stage", "y.stage = :s0"))
    if query.workflow is not None and driver is not None:
        select.where.append(_index_probe(connection, "job_view_workflow", "y.workflow = :workflow"))
    if query.ids is not None:
        select.where.append("j.id IN (SELECT i.id FROM job_view i WHERE i.id BETWEEN :low AND :high)")
        select.values |= {"low": query.ids[0], "high": query.ids[1]}
    # The term's copy of the creation time bounds the part of its index that is read.
    source = "d" if driver is not None else "j"
    conditions = (
        ("workflow", "j.workflow = :workflow", query.workflow), ("ca", f"{source}.created_at >= :ca", query.created_after),
        ("wl", *_pattern(connection, query.workflow_like)),
        ("cb", f"{source}.created_at < :cb", query.created_before), ("sb", "j.stage_since < :sb", query.since_before),
    )  # fmt: skip
    for name, condition, value in conditions:
        if value is not None:
            select.where.append(condition)
            select.values[name] = value


def _pattern(connection: Connection, like: str | None) -> tuple[str, str | None]:
    """(condition, value) of a pattern of LIKE. SQLite's LIKE ignores case, so there it is one of GLOB."""
    if like is None or is_shared(connection):
        return "j.workflow LIKE :wl ESCAPE '!'", like
    wild = {"%": "*", "_": "?"}
    parts = (wild.get(part) or re.sub(r"[*?\[]", r"[\g<0>]", part[-1]) for part in re.findall("!.|.", like, re.DOTALL))
    return "j.workflow GLOB :wl", "".join(parts)


def _index_probe(connection: Connection, index: str, condition: str) -> str:
    """A condition on a job's column that is answered by an index alone, so that jobs that do not fit cost no read of their row."""
    hint = "" if is_shared(connection) else f" INDEXED BY {index}"
    same = "y.created_at = d.created_at AND y.id = d.job_id"
    return f"EXISTS (SELECT 1 FROM job_view y{hint} WHERE y.tenant_id = :t AND {condition} AND {same})"


def _add_words(connection: Connection, select: _Select, words: str) -> None:
    shared = is_shared(connection)
    expression = ts_query(words) if shared else match_expression(words)
    if expression is None:
        select.where.append("1 = 0")
        return
    files = (
        "SELECT file_id FROM search, to_tsquery('simple', CAST(:e AS text)) q WHERE tenant_id = :t AND words @@ q LIMIT :hits"
        if shared
        else "SELECT file_id FROM search WHERE search MATCH :e AND tenant_id = :t LIMIT :hits"
    )
    select.where.append(f"j.id IN (SELECT job_id FROM file_view WHERE id IN ({files}))")
    select.values |= {"e": expression, "hits": TEXT_HITS}
