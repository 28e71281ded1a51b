"""Histories of the simulated pipeline: some in `make test`, 2,000 in `make test-slow`. The model stores are held against the real ones."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlmodel import SQLModel

from services.job_orchestrator.adapters.catalog import Catalog
from services.job_orchestrator.adapters.dispatch_store import SqlDispatchStore
from services.job_orchestrator.adapters.recent_jobs import RecentJobs
from services.job_orchestrator.adapters.sql_store import MODELS, SqlJobStore
from services.job_orchestrator.ports import Stores
from shared.database.store import table_of
from tests.simulation.__main__ import hunt, simulate
from tests.simulation.mirrored import Mirror
from tests.simulation.stores import ModelDispatchStore, ModelJobStore, ModelSealStore, ModelSteeringStore
from tests.simulation.switches import BUGS
from tests.simulation.world import World

HISTORIES, CHUNK = 2000, 50


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(CHUNK, HISTORIES, CHUNK))])
def test_histories_keep_every_promise(first: int) -> None:
    wrong = [(seed, found) for seed, _, found in map(simulate, range(first, first + CHUNK)) if found]
    assert not wrong


def test_the_same_seed_is_the_same_history() -> None:
    one, two = World(7), World(7)
    one.run()
    two.run()
    assert one.broker.logs == two.broker.logs and one.now == two.now


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_planted_bug_is_found(bug: str) -> None:
    assert hunt(bug, 400)[1] is not None


@pytest.mark.parametrize("seed", range(6))
def test_the_model_stores_answer_as_the_real_ones_do(seed: int) -> None:
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine, tables=[table_of(m) for m in MODELS])
    with engine.connect() as connection:
        world = World(seed)
        catalog = Catalog()
        catalog.recent = RecentJobs(3)  # so that most is decoded and some is kept
        for flow in world.flows.values():
            catalog.publish(connection, flow)
        world.orchestrator.stores = mirrored(connection, catalog, world)
        world.run()
    assert world.jobs.tables["job"]


def mirrored(connection: Connection, catalog: Catalog, world: World) -> Stores:
    """Every call goes to the model and to SQLite, and must be answered alike. The simulation never rolls a transaction back."""
    flows = {(w.name, w.version): w for w in world.flows.values()}
    return Stores(
        lambda tx: Mirror(ModelJobStore(tx, flows), SqlJobStore(connection, catalog)),  # type: ignore[arg-type, return-value]
        lambda tx: Mirror(ModelDispatchStore(tx), SqlDispatchStore(connection, 0)),  # type: ignore[arg-type, return-value]
        ModelSteeringStore,
        ModelSealStore,
    )
