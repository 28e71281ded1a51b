"""Addresses in tasks: a worker outside reads and stores files by them, without a key, for its attempt alone."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import AnyHttpUrl

from contracts import FileRef, JobErased, JobStage, StageTask
from contracts.topics import BUILT_IN_ACTIONS
from services.ingest.adapters.store import read_model as rm
from services.ingest.adapters.store.erasures import erase_job
from services.ingest.core import file_view, job_view
from services.ingest.http.openapi import OPEN
from services.job_orchestrator.decisions.task_addresses import SPARE_S, TaskAddresses
from shared import clock
from shared.errors import Stop
from shared.task_grants import TaskGrant, TaskSeal, new_task_key
from shared.web.middleware import shown_path
from stageline_kit import Failed, Queued, Task, TryAgain, Worker, isolation, task_objects
from stageline_kit.task_objects import GatewayObjects, HeldObjects
from stageline_kit.testing import run_action
from tests.contracts.examples import OTHERS
from tests.gateway_app import InProcess, gateway_app
from tests.unit.orchestration import Drive, workflow

SEAL = TaskSeal(new_task_key())
TASK = next(m for m in OTHERS if isinstance(m, StageTask))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("tasks"), max_file_bytes=1000) as made:
        made.gateway.task_seal = SEAL
        yield made


def a_grant(**changes: Any) -> TaskGrant:
    job_id = str(uuid.uuid4())
    return replace(TaskGrant("t1", job_id, f"f-{job_id}", "l-1", int(clock.unix()) + 100), **changes)


async def asked(app: InProcess, method: str, token: str, path: str, content: bytes | None = None, **headers: str) -> Any:
    async with app.http(**headers) as nobody:
        return await nobody.request(method, f"/v1/tasks/{token}/{path}", content=content)


def test_a_changed_token_and_one_that_is_over_grant_nothing() -> None:
    grant = a_grant()
    token = SEAL.token(grant)
    assert SEAL.grant(token, clock.unix()) == grant and SEAL.token(grant) == token
    assert SEAL.grant(token, grant.expires_at) is None
    body, _, signature = token.partition(".")
    other = TaskSeal(new_task_key()).token(grant)
    longer = SEAL.token(replace(grant, expires_at=grant.expires_at + 1)).partition(".")[0]
    for wrong in (other, f"{longer}.{signature}", f"{body}.{signature[:-1]}", f"{body}.", "", "é", f"{token}\n"):
        assert SEAL.grant(wrong, clock.unix()) is None, wrong
    with pytest.raises(Stop, match="characters"):
        TaskSeal("short")
    with pytest.raises(Stop, match="absent"):
        TaskSeal.from_file(Path("absent"))


def test_only_tasks_of_workers_outside_have_an_address_and_it_ends_with_the_attempt() -> None:
    drive = Drive(workflow({"action": "acme.work", "timeouts": {"queued_s": 50, "running_s": 7}}))
    drive.feed(drive.start)
    assert drive.job is not None
    task = drive.tasks[0]
    base = AnyHttpUrl("https://documents.example.com/")
    addressed = TaskAddresses(base, SEAL).with_address(task, drive.job)
    start, _, token = str(addressed.objects_url).rpartition("/")
    assert start == "https://documents.example.com/v1/tasks"
    ends_at = int(task.issued_at.timestamp() + 50 + 7) + SPARE_S
    assert SEAL.grant(token, 0) == TaskGrant(task.tenant_id, task.job_id, task.file_id, task.lease, ends_at)
    assert (
        TaskAddresses(base, SEAL).with_address(task.model_copy(update={"action": BUILT_IN_ACTIONS[0]}), drive.job).objects_url
        is None
    )
    assert (
        TaskAddresses(None, SEAL).with_address(task, drive.job) == TaskAddresses(base, None).with_address(task, drive.job) == task
    )


async def test_a_task_reads_objects_of_its_tenant_and_of_no_other(app: InProcess) -> None:
    mine = await app.gateway.objects.of("t1").put_object(b"hello")
    foreign = await app.gateway.objects.of("t2").put_object(b"secret")
    token = SEAL.token(a_grant())
    answer = await asked(app, "GET", token, f"objects/{mine.name}")
    assert (answer.status_code, answer.content) == (200, b"hello")
    part = await asked(app, "GET", token, f"objects/{mine.name}", range="bytes=1-2")
    assert (part.status_code, part.content) == (206, b"el")
    for wrong in (foreign.name, "t1/../" + foreign.name, "incoming/t1/x", "t1/x", mine.name[:-1]):
        assert (await asked(app, "GET", token, f"objects/{wrong}")).status_code == 404, wrong
    assert (await asked(app, "GET", f"{token}x", f"objects/{mine.name}")).status_code == 404
    assert not await app.rows("SELECT 1 FROM audit WHERE tenant_id = 't1'"), (
        "a worker is a program: the audit has downloads by people"
    )


async def test_an_output_is_named_for_its_job_and_claimed(app: InProcess) -> None:
    grant = a_grant()
    token, digest = SEAL.token(grant), hashlib.sha256(b"made").hexdigest()
    answer = await asked(app, "PUT", token, "outputs/m%C3%A4de.csv?category=table", b"made", **{"content-type": "text/csv"})
    stored = answer.json()
    mark = hashlib.sha256(grant.job_id.encode()).hexdigest()[:16]
    name = f"t1/{digest[:2]}/{digest}-{mark}"
    assert answer.status_code == 201 and stored == {
        "file_name": "mäde.csv", "blob_name": name, "size": 4, "sha256": digest, "content_type": "text/csv", "category": "table",
    }  # fmt: skip
    assert await app.gateway.objects.of("t1").get_object(name) == b"made"
    assert await app.rows("SELECT 1 FROM object_claim WHERE blob = :b AND file_id = :f", b=name, f=grant.file_id)
    assert (await asked(app, "PUT", token, "outputs/a.bin", b"x" * 1001)).status_code == 413
    assert (await asked(app, "PUT", token, "outputs/a.bin", b"x", **{"content-type": "?"})).status_code == 415


async def test_no_worker_fills_the_store_without_bound(app: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.dialects.v1.task_objects.MOST_OUTPUTS", 2)
    token = SEAL.token(a_grant())
    statuses = [(await asked(app, "PUT", token, f"outputs/{n}.txt", b"%d" % n)).status_code for n in range(3)]
    assert statuses == [201, 201, 409]
    assert (await asked(app, "PUT", SEAL.token(a_grant()), "outputs/a.txt", b"a")).status_code == 201, (
        "another task is not concerned"
    )


async def test_the_erasure_of_the_job_takes_an_output_that_no_report_names(app: InProcess) -> None:
    ours, theirs = a_grant(), a_grant()
    names = [(await asked(app, "PUT", SEAL.token(g), "outputs/a.txt", b"equal")).json()["blob_name"] for g in (ours, theirs)]
    file = {**file_view.new_file(str(ours.file_id), "t1", clock.now()), "job_id": ours.job_id}
    await app.gateway.store.transact(lambda c: (rm.save_files(c, [(1.0, file)]), erase(c, ours))[1])
    doomed = {row.blob for row in await app.rows("SELECT blob FROM doomed_object")}
    assert names[0] in doomed and names[1] not in doomed


def erase(connection: Any, grant: TaskGrant) -> None:
    example = next(m for m in OTHERS if isinstance(m, JobErased))
    event = example.model_copy(update={"job_id": grant.job_id, "tenant_id": grant.tenant_id, "blobs": ()})
    erase_job(connection, event, clock.unix())


@pytest.mark.parametrize("end", ["ended", "another tenant's", "erased"])
async def test_the_address_ends_with_its_job(app: InProcess, end: str) -> None:
    grant = a_grant(tenant_id="t4")
    token = SEAL.token(grant)
    mine = await app.gateway.objects.of("t4").put_object(b"hello")
    assert (await asked(app, "GET", token, f"objects/{mine.name}")).status_code == 200
    job = job_view.new_job(grant.job_id, "t5" if end == "another tenant's" else "t4", clock.now())
    if end == "ended":
        job["stage"] = JobStage.COMPLETED.value

    def change(c: Any) -> None:
        erase(c, grant) if end == "erased" else rm.save_jobs(c, [(1.0, job)], {})

    await app.gateway.store.transact(change)
    assert (await asked(app, "GET", token, f"objects/{mine.name}")).status_code == 404
    assert (await asked(app, "PUT", token, "outputs/a.txt", b"a")).status_code == 404


def test_no_log_line_and_no_trace_has_the_token_of_an_address() -> None:
    with_token = [path.replace("{token}", "SECRET") for path in OPEN if "{token}" in path]
    assert len(with_token) >= 4 and not [path for path in with_token if "SECRET" in shown_path(path)]
    assert shown_path("/v1/tasks/a.b/objects/t1/ab/abc") == "/v1/tasks/TOKEN/objects/t1/ab/abc"


worker = Worker("nowhere:1", "w-1")


@worker.action("copy")
def copy(task: Task) -> dict[str, Any]:
    entry = task.output("copy.txt", task.read() + task.text().encode(), category="copy")
    return {"size": entry["size"]}


@worker.action("text")
async def text(task: Task) -> dict[str, Any]:
    return {"text": await asyncio.to_thread(task.text)}


FILE = FileRef(file_id="f-1", file_name="a.txt", content_type="text/plain; charset=utf-8", blob_name="a")


async def test_an_action_reads_its_file_and_its_outputs_are_in_its_result() -> None:
    objects = {"a": b"one "}
    report = (await run_action(worker, "copy", file=FILE, objects=objects))[-1]
    assert report.status.value == "OK" and objects["copy.txt"] == b"one one "
    [output] = report.result["outputs"]
    assert (output["file_name"], output["content_type"], output["category"]) == ("copy.txt", "text/plain", "copy")
    assert (report.result["size"], output["size"]) == (8, 8)


def test_an_action_in_a_process_of_its_own_returns_its_outputs_too() -> None:
    task = Task(TASK.model_copy(update={"file": FILE}), _objects=HeldObjects({"a": b"one "}))
    kind, result = isolation._outcome_of(copy, task)
    assert kind == "result" and [o["file_name"] for o in result["outputs"]] == ["copy.txt"]


async def test_a_text_is_what_a_step_before_has_extracted() -> None:
    scan = FILE.model_copy(update={"content_type": "application/pdf"})
    objects = {"a": b"%PDF", "t": "Grüße".encode()}
    report = (await run_action(worker, "text", file=scan, inputs={"read": {"text_blob": "t"}}, objects=objects))[-1]
    assert report.result == {"text": "Grüße"}
    assert (await run_action(worker, "text", file=scan, objects=objects))[-1].code == "no_text"
    assert (await run_action(worker, "text", file=FILE, objects={}))[-1].code == "object_unreadable"
    assert (await run_action(worker, "text", objects={}))[-1].code == "no_text"


class Answering:
    """A gateway that gives the listed answers, one after the other."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.partition("\r\n")[0])
        status, body = self.answers.pop(0)
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


async def answers_of(gateway: Answering, call: Any) -> Any:
    server = await asyncio.start_server(gateway, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        return await asyncio.to_thread(call, GatewayObjects(f"http://127.0.0.1:{port}/v1/tasks/T"))
    finally:
        server.close()
        await server.wait_closed()


async def test_a_passing_fault_is_tried_again_and_bytes_are_compared_with_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_objects, "PAUSE_S", 0.001)
    digest = hashlib.sha256(b"good").hexdigest()
    name = f"t1/{digest[:2]}/{digest}"
    gateway = Answering((503, b""), (200, b"good"), (200, b"bad"))
    assert await answers_of(gateway, lambda objects: objects.read(name)) == b"good"
    assert gateway.asked == [f"GET /v1/tasks/T/objects/{name} HTTP/1.1"] * 2
    with pytest.raises(TryAgain, match="not those"):
        await answers_of(gateway, lambda objects: objects.read(name))
    with pytest.raises(TryAgain, match="new address"):
        await answers_of(Answering((404, b"over")), lambda objects: objects.read(name))
    with pytest.raises(TryAgain, match="new address"):
        await answers_of(Answering((404, b"over")), lambda objects: objects.store("a b", b"x", "text/plain", None))
    monkeypatch.setenv("STAGELINE_URL", "http://gateway.internal:8080/base/")
    assert GatewayObjects("https://documents.example.com/x/v1/tasks/T").url == "http://gateway.internal:8080/base/v1/tasks/T"
    monkeypatch.delenv("STAGELINE_URL")
    with pytest.raises(Failed, match="413"):
        await answers_of(Answering((413, b"too large")), lambda objects: objects.store("a b", b"x", "text/plain", None))
    with pytest.raises(Queued, match="does not answer") as waiting:
        await answers_of(Answering(*[(503, b"")] * 4), lambda objects: objects.read(name))
    assert waiting.value.code == "dependency_unavailable"


def test_a_task_without_an_address_says_what_is_missing() -> None:
    with pytest.raises(TryAgain, match="STAGELINE_TASK_KEY_FILE"):
        Task(TASK).read()
    with pytest.raises(Failed, match="no file"):
        Task(TASK.model_copy(update={"file": None, "file_id": None})).read()
