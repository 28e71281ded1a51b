"""Job searches with any mix of conditions and any order give the same pages as plain Python does, on both databases."""

from __future__ import annotations

import fnmatch
import itertools
import random
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from services.ingest.adapters.store import job_search, operations, read_model
from services.ingest.adapters.store.job_search import count, find
from services.ingest.core.job_filter import Filter, JobQuery, decode_cursor, encode_cursor
from services.ingest.core.job_view import new_job
from tests.conformance.conftest import Opener

JOBS = 400
START = 1_700_000_000.0


@dataclass(frozen=True)
class Known:
    """A job for the comparison in Python."""

    id: str
    tenant: str
    stage: str
    workflow: str
    created_at: float
    since: float
    terms: frozenset[str]


def jobs() -> list[Known]:
    """Random jobs, some of them with equal times, like those of a batch."""
    rng = random.Random(11)
    made = []
    for n in range(JOBS):
        at = START + n // 3
        terms = {f"tag:{rng.choice('aab')}", f"metadata.case={rng.randrange(20)}"} | ({"error:late"} if n % 9 == 0 else set())
        workflow = f"flow-{rng.choice((1, 1, 1, 2))}@1"
        stage = rng.choice(("completed", "completed", "failed", "queued"))
        made.append(Known(f"job-{n:03}", rng.choice("xxy"), stage, workflow, at, at + rng.randrange(50), frozenset(terms)))
    return made


def enter(connection: Connection, known: list[Known]) -> None:
    """Insert the jobs as the read model does."""
    records = []
    for job in known:
        record = new_job(job.id, job.tenant, datetime.fromtimestamp(job.created_at, UTC))
        records.append((job.created_at, {**record, "stage": job.stage, "workflow": job.workflow, "stage_since": job.since}))
    read_model.save_jobs(connection, records, {})
    operations.save_terms(connection, [(j.tenant, term, j.created_at, j.id) for j in known for term in j.terms])


def fits(job: Known, wanted: JobQuery) -> bool:
    """The result of a search in plain Python."""
    return (
        job.tenant == wanted.tenant
        and (not wanted.stages or job.stage in wanted.stages)
        and wanted.workflow in (None, job.workflow)
        and job.terms >= set(wanted.terms)
        and (wanted.created_after is None or job.created_at >= wanted.created_after)
        and (wanted.created_before is None or job.created_at < wanted.created_before)
        and (wanted.since_before is None or job.since < wanted.since_before)
    )


def searches() -> list[JobQuery]:
    """Searches with any mix of conditions, in any order."""
    stages: list[tuple[str, ...]] = [(), ("completed",), ("failed", "cancelled")]
    workflows = [None, "flow-1@1", "flow-2@1"]
    terms: list[tuple[str, ...]] = [(), ("tag:a",), ("tag:b", "error:late"), ("metadata.case=3",), ("tag:none",)]
    times: list[dict[str, float]] = [{}, {"created_after": START + 20, "created_before": START + 90, "since_before": START + 80}]
    sorts = ["-created_at", "created_at", "stage_since"]
    return [
        JobQuery("x", s, w, t, sort=sort, **bounds)  # type: ignore[arg-type]
        for s, w, t, bounds, sort in itertools.product(stages, workflows, terms, times, sorts)
    ]


def expected(known: list[Known], wanted: JobQuery) -> list[str]:
    """Ids in the order that was asked for."""
    found = [job for job in known if fits(job, wanted)]
    found.sort(
        key=lambda job: (job.since if wanted.sort == "stage_since" else job.created_at, job.id),
        reverse=wanted.sort.startswith("-"),
    )
    return [job.id for job in found]


@pytest.mark.parametrize("sample", [job_search.SAMPLE, 40])
async def test_any_conditions_find_what_plain_python_finds(opened: Opener, monkeypatch: pytest.MonkeyPatch, sample: int) -> None:
    """In a small sample nearly every condition matches many jobs, as in a large database."""
    monkeypatch.setattr(job_search, "SAMPLE", sample)
    store, known = await opened("ingest"), jobs()
    await store.transact(lambda c: enter(c, known))

    def everything(connection: Connection) -> None:
        some = 0
        for wanted in searches():
            right = expected(known, wanted)
            page, following = find(connection, wanted, JOBS)
            assert [r["id"] for r in page] == right and following is None, wanted
            assert count(connection, wanted, JOBS) == len(right), wanted
            some += bool(right)
        assert some > 100, "enough searches find something"

    await store.read(everything)


@pytest.mark.parametrize("sort", ["-created_at", "created_at", "stage_since"])
@pytest.mark.parametrize("conditions", [{}, {"terms": ("tag:a",)}, {"terms": ("tag:a",), "stages": ("completed",)}])
async def test_pages_together_are_the_whole(opened: Opener, sort: Any, conditions: dict[str, Any]) -> None:
    store, known = await opened("ingest"), jobs()
    await store.transact(lambda c: enter(c, known))
    wanted = JobQuery("x", sort=sort, **conditions)
    found: list[str] = []
    cursor: str | None = encode_cursor(-1.0 if not sort.startswith("-") else START * 2, "")
    while cursor is not None:
        after = decode_cursor(cursor)
        page, cursor = await store.read(lambda c, a=after: find(c, replace(wanted, after=a), 7))  # type: ignore[misc]
        assert page and len(page) <= 7
        found += [r["id"] for r in page]
    assert found == expected(known, wanted) and len(found) > 20


@pytest.mark.parametrize("terms", [(), ("tag:a",)])
@pytest.mark.parametrize("pattern", ["flow", "flow-1", "flow-?", "flow-*@1", "*@2", "FLOW-1", "flow_1", "%"])
async def test_a_pattern_finds_the_workflows_that_fit(opened: Opener, pattern: str, terms: tuple[str, ...]) -> None:
    store, known = await opened("ingest"), jobs()
    await store.transact(lambda c: enter(c, known))
    wanted = replace(Filter(workflow=pattern).query("x", 0.0), terms=terms)
    whole = pattern if "@" in pattern else f"{pattern}@*"
    right = expected([job for job in known if fnmatch.fnmatchcase(job.workflow, whole)], replace(wanted, workflow=None))
    found = await store.read(lambda c: find(c, wanted, JOBS)[0])
    assert [r["id"] for r in found] == right


@pytest.mark.parametrize("terms", [(), ("tag:a",)])
async def test_the_beginning_of_an_id_finds_the_jobs_that_begin_so(opened: Opener, terms: tuple[str, ...]) -> None:
    store = await opened("ingest")
    known = [replace(job, id=str(uuid.uuid5(uuid.NAMESPACE_URL, job.id))) for job in jobs()]
    await store.transact(lambda c: enter(c, known))
    some = 0
    for beginning in ("a", "0", known[0].id[:8], known[1].id[:9], known[2].id, "00000000"):
        wanted = replace(Filter(id=beginning).query("x", 0.0), terms=terms)
        found = await store.read(lambda c, w=wanted: find(c, w, JOBS)[0])  # type: ignore[misc]
        assert [r["id"] for r in found] == expected([j for j in known if j.id.startswith(beginning)], wanted), beginning
        some += len(found)
    assert some > 5
