"""One pipeline of several processes of every service, for all tests that need replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.pipelines import Pipeline

COPIES = {"ingest": 2, "session": 2, "job_orchestrator": 3, "stage_worker": 2, "notifier": 2}


@pytest.fixture(scope="session")
async def database(postgres_url: str) -> str:
    """URL of the database that the replicas share."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE replicas")
    await connection.close()
    return postgres_url.rpartition("/")[0] + "/replicas"


@pytest.fixture(scope="session")
async def scaled(tmp_path_factory: pytest.TempPathFactory, database: str) -> AsyncIterator[Pipeline]:
    """`COPIES` of each service on one PostgreSQL. Tests kill and stop them, except the gateways."""
    options = [option for name, copies in COPIES.items() for option in ("--scale", f"{name}={copies}")]
    environment = {"STAGELINE_DATABASE_URL": database, "STAGELINE_REQUESTS_PER_MINUTE": "100000000"}
    running = Pipeline(tmp_path_factory.mktemp("scaled"), options, environment)
    running.start()
    yield running
    running.stop()
