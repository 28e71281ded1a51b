"""Fixtures of all tiers: one running pipeline per session, on real Kafka, as real processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cli.client import Client
from tests.otlp import MetricsReceiver
from tests.pipelines import Pipeline, RestartablePipeline
from tests.published_answers import CheckedClient
from tests.servers import KAFKA_IMAGE, POSTGRES_IMAGE, choice, kafka, postgres

__all__ = ["SAMPLES", "Pipeline"]

settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci")
# A broker of the tests lives for half a minute, too short for the JIT's second compiler to pay.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
os.environ.setdefault("STAGELINE_TEST_ACTIONS", "1")
SAMPLES = Path(__file__).parents[1] / "samples" / "documents"


SERVERS = {
    "pipeline": "pipeline",
    "restartable": "restartable",
    "opened": "servers",
    "postgres_url": "servers",
    "kafka_url": "servers",
}
"""Fixtures of the session that start something → the group of tests that use them. A group runs in one worker, so each starts once."""
ALONE = ("unit", "contracts", "architecture", "simulation")
"""Folders whose tests start nothing: each test goes to the worker that is free. Elsewhere the tests of a module stay together."""
FIRST = ("pipeline", "restartable", "servers", "test_compose")
"""Groups that take longest begin first; the tests that start nothing fill the gaps at the end."""


def group_of(item: pytest.Item) -> str:
    """The group of a test under `--dist loadgroup`; empty for a test that may run anywhere."""
    marked = item.get_closest_marker("xdist_group")
    if marked is not None:
        return str(marked.args[0])
    used = [group for name, group in SERVERS.items() if name in getattr(item, "fixturenames", ())]
    return used[0] if used else "" if item.path.parent.name in ALONE else item.path.stem


@pytest.hookimpl(wrapper=True)  # a wrapper begins before xdist's own hook, which puts the groups into the names of tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Put tests into their groups, and the longest groups first."""
    order: dict[pytest.Item, int] = {}
    for item in items:
        group = group_of(item)
        order[item] = len(FIRST) + 1 if not group else FIRST.index(group) if group in FIRST else len(FIRST)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=order.__getitem__)
    return (yield)


def pytest_report_header() -> list[str]:
    """Print which servers this run uses."""
    return [f"postgresql: {choice(POSTGRES_IMAGE)}", f"kafka of tests/integration: {choice(KAFKA_IMAGE)}"]


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server for the whole run. Each test creates its own schema or database in it."""
    in_one_worker(tmp_path_factory, "postgres")
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    """A Kafka broker for the integration tests. Each test uses its own ids in it."""
    with kafka() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
async def otlp() -> AsyncIterator[MetricsReceiver]:
    """A local OTLP receiver to which the shared pipeline reports."""
    receiver = MetricsReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


def in_one_worker(tmp_path_factory: pytest.TempPathFactory, fixture: str) -> None:
    """Fail when another worker of this run has started the same: `group_of` must keep the tests that use it together."""
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp()
    (shared / f"{fixture}-started").touch(exist_ok=False)


@pytest.fixture(scope="session")
async def pipeline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, otlp: MetricsReceiver
) -> AsyncIterator[Pipeline]:
    """The shared pipeline. Tests use their own jobs and break nothing. `STAGELINE_TEST_STORE=postgresql` runs it on PostgreSQL."""
    in_one_worker(tmp_path_factory, "pipeline")
    workflows = tmp_path_factory.mktemp("workflows")
    for path in (Path(__file__).parent / "workflows").glob("*.yaml"):
        (workflows / path.name).write_text(path.read_text())
    containers = tmp_path_factory.mktemp("settings") / "containers.json"
    samples = {"source": "local", "url": SAMPLES.as_uri(), "tenants": ["default"]}
    containers.write_text(json.dumps({"samples": samples, "closed": {**samples, "tenants": []}}))
    watched = containers.with_name("watched.json")
    watched.write_text(json.dumps({"scans": {"path": str(containers.parent / "scans")}}))
    environment = {
        "STAGELINE_CONTAINERS_FILE": str(containers),
        "STAGELINE_WATCHED_FOLDERS_FILE": str(watched),
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "STAGELINE_WORKFLOWS": str(workflows),
        "STAGELINE_WEBHOOK_SCHEDULE": "[0, 0.2, 0.2, 0.2]",
        "STAGELINE_MAX_FILE_BYTES": "2000000",
        "STAGELINE_CONVERSION_MAX_JOBS": "100",
    }
    if os.environ.get("STAGELINE_TEST_STORE") == "postgresql":
        environment["STAGELINE_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    running = Pipeline(tmp_path_factory.mktemp("pipeline"), ["--otlp", otlp.endpoint], environment)
    running.start()
    await schedule(running)
    yield running
    # In a thread: stopping services send their last metrics to the receiver, which runs in this loop.
    await asyncio.to_thread(running.stop)


async def schedule(pipeline: Pipeline) -> None:
    """A schedule in a tenant of its own, made before any test: until one asks for it, its time has come."""
    async with Client(pipeline.target()) as client:
        admin = {"user_name": "scheduler", "tenant_id": "scheduled", "role": "admin"}
        pipeline.scheduler_key = (await client.call("POST", "/v1/keys", json=admin))["key"]
    async with Client(pipeline.target(pipeline.scheduler_key)) as client:
        await client.call("PUT", "/v1/schedules/every-minute", json={"cron": "* * * * *", "workflow": "noop-five"})


@pytest.fixture
async def client(pipeline: Pipeline) -> AsyncIterator[Client]:
    """A client of the shared pipeline with the admin key. It holds answers of our own API against the published document."""
    async with CheckedClient(pipeline.target()) as made:
        yield made


@pytest.fixture
def own_pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline that a test may break."""
    running = Pipeline(tmp_path / "data")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestartablePipeline]:
    """A second pipeline of the run: tests may crash its services and restart them with other settings, but leave it running."""
    in_one_worker(tmp_path_factory, "restartable")
    running = RestartablePipeline(tmp_path_factory.mktemp("restartable"))
    running.start()
    yield running
    running.stop()
