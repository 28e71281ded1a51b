"""A project with only the contracts and the kit installed: producer, consumer and worker, in Python and Node.js."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.client import Client
from contracts import MODELS, CreateJob, JobFinished, JobRequest, JobStage, Tenancy
from shared import clock
from stageline_kit import JobFeed, Producer
from tests.conftest import Pipeline
from tests.eventually import eventually
from tests.tiers import needs, npm_installed

# One worker, for all of them need the same environment.
pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("pipeline")]
ROOT = Path(__file__).parents[2]
OWNER = Tenancy(tenant_id="default", user_name="outside")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment in which only the two packages and what they ask for are installed."""
    folder = tmp_path_factory.mktemp("outside") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    environment, sources = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, folder.parent / "sources"
    for package in ("contracts", "stageline_kit"):  # from copies: a build leaves its files beside the source
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    subprocess.run([*pip, str(sources / "contracts")], check=True, env=environment, cwd=folder)
    alone = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, check=True, cwd=folder
    ).stdout
    names = {entry["name"].lower() for entry in json.loads(alone)}
    assert names - {"pip", "setuptools"} <= {
        "stageline-contracts", "pydantic", "pydantic-core", "pydantic_core", "annotated-types", "typing-extensions", "typing_extensions",
        "typing-inspection",
    }, names  # fmt: skip
    read = "import contracts; from contracts.registry import check; print(len(contracts.MODELS), check())"
    out = subprocess.run([str(python), "-c", read], capture_output=True, text=True, check=True, cwd=folder).stdout
    assert out.split() == [str(len(MODELS)), "[]"], out
    subprocess.run([*pip, str(sources / "stageline_kit")], check=True, env=environment, cwd=folder)
    return python


@contextmanager
def started(environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program of the outside project, ended by SIGTERM."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT / "examples", env={**os.environ, **environment}
    )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=40)
        assert process.returncode == 0, out


@pytest.mark.slow
@needs("node")
def test_the_official_parser_finds_nothing_to_say_about_the_asyncapi_document(tmp_path: Path) -> None:
    document = ROOT / "contracts" / "asyncapi.json"
    folder = npm_installed(ROOT / "tests" / "node", tmp_path / "node")
    out = subprocess.run(["node", "parse.mjs", str(document)], cwd=folder, capture_output=True, text=True)
    written = json.loads(document.read_text())
    channels, operations, messages = len(written["channels"]), len(written["operations"]), len(written["components"]["messages"])
    assert channels == operations and messages >= channels
    counted = f"{channels} channels, {operations} operations, {messages} messages"
    assert out.returncode == 0 and out.stdout.startswith(counted), out.stdout + out.stderr


@pytest.mark.slow
@needs("node")
async def test_producer_and_workers_in_two_languages(pipeline: Pipeline, client: Client, outside: Path, tmp_path: Path) -> None:
    node_worker = npm_installed(ROOT / "examples" / "nodejs", tmp_path / "nodejs")
    worker = pipeline.settings("--role", "worker", "--actions", "acme.shout,acme.node")
    producer = {**os.environ, **pipeline.settings("--role", "producer")}
    with (
        started(worker, str(outside), "worker.py", pipeline.kafka),
        started(worker, "node", str(node_worker / "worker.mjs"), pipeline.kafka, "acme.node"),
    ):
        produce = [str(outside), "producer.py", pipeline.kafka, "test-outside", clock.new_root()]
        ids = {
            subprocess.run(produce, capture_output=True, text=True, check=True, cwd=ROOT / "examples", env=producer).stdout
            for _ in range(2)
        }
        [job_id] = [i.strip() for i in ids]

        async def ended() -> bool:
            try:
                return bool((await client.call("GET", f"/api/job/detail/{job_id}"))["stage"] in ("completed", "failed"))
            except Exception:
                return False

        await eventually(ended, 60)
        history = (await client.call("GET", f"/v1/jobs/{job_id}/history?limit=1000"))["result"]
        job = await client.call("GET", f"/v1/jobs/{job_id}")
        assert job["stage"] == "completed", job
        assert [e["event"]["event_name"] for e in history].count("job_create_event") == 1


JOBS = 2230
KILLS = 20


async def flood(pipeline: Pipeline) -> list[str]:
    """Publish `JOBS` no-op jobs, which make nine job events each."""
    ids = [clock.new_root() for _ in range(JOBS)]
    async with Producer(pipeline.kafka, "/test", **pipeline.as_user("producer")) as producer:
        for start in range(0, JOBS, 200):
            await asyncio.gather(*(
                producer.publish(CreateJob(command_id=f"c-{i}", job_id=i, owner=OWNER, issued_at=clock.now(), job=JobRequest(workflow="noop-five")))
                for i in ids[start : start + 200]
            ))  # fmt: skip
    return ids


@pytest.fixture
async def quiet(own_pipeline: Pipeline) -> AsyncIterator[Pipeline]:
    own_pipeline.start()
    yield own_pipeline


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_consumer_killed_twenty_times_counts_exactly(quiet: Pipeline, outside: Path, tmp_path: Path) -> None:
    database, draw = tmp_path / "tally.db", random.Random(3)
    command = [str(outside), str(ROOT / "examples" / "consumer.py"), quiet.kafka, str(database)]

    def tally() -> dict[str, int]:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
        try:
            return dict(connection.execute("SELECT kind, n FROM tally"))
        except sqlite3.OperationalError:
            return {}
        finally:
            connection.close()

    environment = {**os.environ, **quiet.settings("--role", "consumer")}
    flooding = asyncio.create_task(flood(quiet))
    counted = 0
    for kill in range(KILLS + 1):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
        target = counted + draw.randrange(100, 900) if kill < KILLS else 9 * JOBS

        async def reached(target: int = target, process: subprocess.Popen[bytes] = process) -> bool:
            assert process.poll() is None, process.communicate()[1].decode()[-2000:]
            return database.exists() and tally().get("events", 0) >= min(target, 9 * JOBS)

        await eventually(reached, 60, 0.01)
        process.kill()
        process.communicate()
        counted = tally()["events"]
    await flooding
    assert 9 * JOBS >= 20_000 and tally() == {"events": 9 * JOBS, "finished": JOBS}


async def test_a_feed_starts_from_the_snapshot_and_goes_on_exactly(pipeline: Pipeline) -> None:
    async def submit(producer: Producer) -> str:
        job_id = clock.new_root()
        wish = JobRequest(workflow="noop-five")
        await producer.publish(CreateJob(command_id=f"c-{job_id}", job_id=job_id, owner=OWNER, issued_at=clock.now(), job=wish))
        return job_id

    async with Producer(pipeline.kafka, "/test", **pipeline.as_user()) as producer:
        first = await submit(producer)

        async def in_snapshot() -> bool:
            async with JobFeed(pipeline.kafka, **pipeline.as_user("consumer")) as feed:
                jobs = await feed.load()
                return first in jobs and jobs[first].stage is JobStage.COMPLETED and jobs[first].sequence == 9

        await eventually(in_snapshot, 30, 0.3)
        async with JobFeed(pipeline.kafka, tenant="default", **pipeline.as_user("consumer")) as feed:
            await feed.load()
            assert feed.jobs[first].stage is JobStage.COMPLETED
            second = await submit(producer)
            sequences: list[int] = []
            async with asyncio.timeout(30):
                async for change in feed.changes():
                    assert change.state.job_id != first, "events that the snapshot includes are not delivered again"
                    if change.state.job_id == second:
                        sequences.append(change.state.sequence)
                        if isinstance(change.event, JobFinished) or (
                            change.state.stage is JobStage.COMPLETED and change.state.sequence == 9
                        ):
                            break
            assert sequences == sorted(set(sequences)) and sequences[-1] == 9 and feed.jobs[second].stage is JobStage.COMPLETED
