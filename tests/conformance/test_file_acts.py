"""What people do to files, in the stores: the orchestrator's two jobs, the read model, the session's and the notifier's parts."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic_core import from_json
from sqlalchemy import Connection, text

from contracts import (
    CreateJob,
    EraseFile,
    EraseJob,
    FileErased,
    FileRef,
    JobErased,
    JobRequest,
    Message,
    MoveFile,
    RecycleFile,
    RestoreFile,
    StageReport,
    StageTask,
    TaskStatus,
    Tenancy,
)
from services.ingest.adapters.store import former_files, recycle_bin
from services.ingest.adapters.store.read_model import records
from services.ingest.handlers import on_batch
from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.seal_store import SqlSealStore
from services.job_orchestrator.adapters.sql_store import SqlJobStore
from services.job_orchestrator.adapters.steering_store import SqlSteeringStore
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Stores
from shared.database.store import Store
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from shared.telemetry.tracing import Telemetry
from tests.conformance.conftest import Opener
from tests.contracts.examples import AT

OWNER = Tenancy(tenant_id="t", user_name="ann")
FLOW = Workflow.model_validate({"name": "w", "version": 1, "steps": [{"name": "s", "action": "a"}]})
RESULT: dict[str, Any] = {
    "tag": {"name": "invoice", "confidence": 0.5}, "fields": {"total": "1"}, "properties": {"page_count": "2"}, "index_blob": "t/index",
}  # fmt: skip


class Sent(Unit):
    """A unit that keeps its messages."""

    def __init__(self, connection: Connection, now: float, source: str, telemetry: Telemetry, sent: list[Message]) -> None:
        super().__init__(connection, now, source, telemetry)
        self.sent = sent

    def emit(self, topic: str, message: Message, trace: str | None, command: bool = False, traced: bool = True) -> None:
        self.sent.append(message)


class Pipeline:
    """The orchestrator on a store of its own; its events go into the read model in the order that it made them."""

    def __init__(self, jobs: Store, view: Store) -> None:
        catalog = Catalog()
        self.orchestrator = Orchestrator(
            Stores(partial(SqlJobStore, catalog=catalog), partial(SqlDispatchStore, slot=0), SqlSteeringStore, SqlSealStore)
        )
        self.catalog, self.jobs, self.view = catalog, jobs, view
        self.sent: list[Message] = []
        self.clock = 0
        self.number = 0

    async def prepare(self) -> None:
        await self.jobs.transact(lambda c: (self.catalog.publish(c, FLOW), self.catalog.load(c)))
        await self.feed(*(self.create(job, files) for job, files in (("a", ("f", "g")), ("b", ("h",)))))
        await self.feed(*[_done(task) for task in self.sent if isinstance(task, StageTask)])

    def create(self, job_id: str, files: tuple[str, ...]) -> CreateJob:
        refs = tuple(FileRef(file_id=f, file_name=f"{f}.pdf", blob_name=f"t/{f}") for f in files)
        request = JobRequest(workflow="w")
        return CreateJob(command_id=f"create-{job_id}", job_id=job_id, owner=OWNER, issued_at=AT, job=request, files=refs)

    async def act(self, kind: Any, job: str, file: str = "f", **fields: Any) -> Any:
        """Give a command; returns its answer."""
        self.number += 1
        command = kind(command_id=f"c-{self.number}", job_id=job, file_id=file, owner=OWNER, issued_at=AT, **fields)
        return (await self.feed(command))[-1]

    async def feed(self, *messages: Message) -> list[Message]:
        self.clock += 10
        sent: list[Message] = []
        now = (AT + timedelta(seconds=self.clock)).timestamp()

        def handle(c: Connection) -> None:
            unit = Sent(c, now, "/t", Telemetry("t", "i"), sent)
            self.orchestrator.on_batch(unit, [_inbound(m, "operator.commands") for m in messages])

        await self.jobs.transact(handle)
        self.sent += sent
        await self.project(*[m for m in sent if not isinstance(m, StageTask)])
        return sent

    async def project(self, *events: Message) -> None:
        await self.view.transact(lambda c: project(c, *events))

    async def file(self, file: str = "f") -> dict[str, Any] | None:
        return await self.view.read(lambda c: records(c, "file_view", [file]).get(file))

    async def files(self, job: str) -> set[str]:
        rows = await self.view.read(lambda c: c.execute(text(former_files.OF_JOB), {"v": job, "n": 9}).scalars().all())
        return {from_json(body)["id"] for body in rows}

    async def counts(self, job: str) -> tuple[int, int]:
        record = (await self.view.read(lambda c: records(c, "job_view", [job])))[job]
        return record["file_count"], record["finished_files"]

    async def rows(self, table: str) -> int:
        return await self.view.read(lambda c: int(c.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()))


def _inbound(message: Message, topic: str = "t") -> Inbound:
    return Inbound(message, topic, 0, 0, 0.0, None, message.to_json(), ())


def _done(task: StageTask) -> StageReport:
    fields = task.model_dump(include={"job_id", "tenant_id", "file_id", "step", "action", "attempt", "lease"})
    return StageReport(report_id=f"r-{task.lease}", reported_at=AT, status=TaskStatus.OK, result=RESULT, **fields)


def project(c: Connection, *events: Message) -> None:
    on_batch(Unit(c, AT.timestamp(), "/t", Telemetry("t", "i")), [_inbound(e) for e in events])


@pytest.fixture
async def services(opened: Opener) -> Pipeline:
    made = Pipeline(await opened("job_orchestrator"), await opened("ingest"))
    await made.prepare()
    return made


async def terms(services: Pipeline, job: str) -> set[str]:
    query = text("SELECT term FROM job_term WHERE job_id = :j")
    return set(await services.view.read(lambda c: c.execute(query, {"j": job}).scalars().all()))


async def test_a_moved_file_is_in_one_job_alone(services: Pipeline) -> None:
    answer = await services.act(MoveFile, "a", to_job_id="b")
    assert answer.ok and (answer.file_id, answer.revision, answer.verb) == ("f", 1, "file.move")
    record = await services.file()
    assert record is not None and (record["job_id"], record["status"], record["folder"]) == ("b", "pending", "jobs/b/pending")
    assert (record["fields"], record["tag_name"], record["properties"], record["index_blob"]) == (None, None, {}, None)
    assert await services.files("a") == {"g"} and await services.files("b") == {"f", "h"}
    assert await services.counts("a") == (2, 2) and await services.counts("b") == (1, 1), "counters tell of what ran"
    assert "file:f.pdf" not in await terms(services, "a") and "file:f.pdf" in await terms(services, "b")
    gone = await services.act(RecycleFile, "a")
    assert (gone.ok, gone.code) == (False, "no_such_file")
    back = await services.act(MoveFile, "b", to_job_id="a")
    assert back.ok and await services.files("a") == {"f", "g"} and await services.files("b") == {"h"}


@pytest.mark.parametrize(
    ("to_job", "code"), [("nobody", "unknown_target"), ("a", "target_has_the_file"), ("running", "target_has_not_ended")]
)
async def test_a_refused_move_changes_neither_job(services: Pipeline, to_job: str, code: str) -> None:
    await services.feed(services.create("running", ("r",)))
    answer = await services.act(MoveFile, "a", to_job_id=to_job)
    assert (answer.ok, answer.code) == (False, code) and answer.message.startswith("to_job_id: ")
    assert await services.files("a") == {"f", "g"}


async def test_the_recycle_bin_hides_a_text_from_searches_until_it_is_restored(services: Pipeline) -> None:
    waiting = await services.rows("index_pending")
    assert (await services.act(RecycleFile, "a")).ok
    record = await services.file()
    assert record is not None and record["folder"] == "recycle_bin" and record["recycled_at"]
    assert (await services.rows("index_pending"), await services.rows("recycled_file")) == (waiting - 1, 1)
    assert (await services.act(RestoreFile, "a")).ok
    record = await services.file()
    assert record is not None and (record["folder"], record["recycled_at"]) == ("jobs/a", None)
    assert (await services.rows("index_pending"), await services.rows("recycled_file")) == (waiting, 0)


async def test_an_erased_file_leaves_nothing_and_late_events_change_nothing(services: Pipeline) -> None:
    before = [m for m in services.sent if not isinstance(m, StageTask)]
    await services.act(RecycleFile, "a")
    assert (await services.act(EraseFile, "a")).ok
    assert await services.file() is None and await services.files("a") == {"g"}
    for table in ("blob_ref", "history", "index_pending"):
        column = "blob" if table == "blob_ref" else "body" if table == "history" else "file_id"
        query = text(f"SELECT count(*) FROM {table} WHERE {column} LIKE :f")
        names = {"blob_ref": "t/f", "history": '%"f"%', "index_pending": "f"}
        assert await services.view.read(lambda c, q=query, n=names[table]: c.execute(q, {"f": n}).scalar()) == 0, table
    assert await services.rows("recycled_file") == 0
    await services.project(*[e for e in before if getattr(getattr(e, "event", None), "file_id", None) == "f"])
    assert await services.file() is None
    assert (await services.act(RestoreFile, "a")).code == "no_such_file"


@pytest.mark.parametrize("by", [EraseFile, EraseJob])
async def test_a_moved_file_is_erased_in_its_former_job_too(services: Pipeline, by: Any) -> None:
    await services.act(MoveFile, "a", to_job_id="b")
    await services.act(RecycleFile, "b")
    if by is EraseJob:
        await services.feed(EraseJob(command_id="erase", job_id="b", owner=OWNER, issued_at=AT))
    else:
        assert (await services.act(EraseFile, "b")).ok
    assert await services.file() is None
    told = text("SELECT count(*) FROM history WHERE body LIKE :f")
    assert await services.view.read(lambda c: c.execute(told, {"f": '%"f"%'}).scalar()) == 0


async def test_the_erasure_of_a_job_takes_its_recycled_files_along(services: Pipeline) -> None:
    await services.act(RecycleFile, "a")
    await services.project(JobErased(event_id="gone", job_id="a", tenant_id="t", occurred_at=AT))
    assert await services.files("a") == set() and await services.rows("recycled_file") == 0


async def test_a_file_that_moves_to_an_erased_job_goes_with_it(services: Pipeline) -> None:
    await services.project(JobErased(event_id="gone", job_id="b", tenant_id="t", occurred_at=AT))
    await services.act(MoveFile, "a", to_job_id="b")
    assert await services.file() is None


async def test_a_file_that_is_erased_in_a_later_job_follows_in_the_earlier_one(services: Pipeline) -> None:
    def rerun(c: Connection) -> None:
        record = records(c, "file_view", ["f"])["f"]
        former_files.save(c, {("a", "f"): record}, {"f": 1.0}, 1.0)
        c.execute(
            text(
                "UPDATE file_view SET job_id = 'later', body = replace(body, '\"job_id\":\"a\"', '\"job_id\":\"later\"') WHERE id = 'f'"
            )
        )

    await services.view.transact(rerun)
    await services.project(FileErased(event_id="e", job_id="later", file_id="f", tenant_id="t", occurred_at=AT))
    record = await services.file()
    assert record is not None and record["job_id"] == "a"
    (due,) = await services.view.read(lambda c: recycle_bin.rows_due(c, 1.0, AT.timestamp()))
    assert (due.job_id, due.file_id, due.tenant_id, bool(due.follows)) == ("a", "f", "t", True)
    assert (await services.act(EraseFile, "a", recycled=False)).ok and await services.file() is None


async def test_another_tenants_events_change_nothing(services: Pipeline) -> None:
    await services.project(FileErased(event_id="e", job_id="a", file_id="f", tenant_id="other", occurred_at=AT))
    assert await services.file() is not None and await services.counts("a") == (2, 2)
