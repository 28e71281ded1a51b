"""Workers and the backlog as operators see them: who lives, since when nobody does, and what each worker has now."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cli.commands.operate import live_workers
from cli.commands.workers import table_of
from contracts import HeldTask, WorkerSeen
from services.ingest.adapters.store import workers
from services.ingest.core.backlog import merge
from services.ingest.core.presence import live_by_action, worker_of
from shared import clock
from tests.gateway_app import InProcess, gateway_app

NOW = 1_800_000_000.0


def at(seconds_ago: float) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=seconds_ago)


def seen(worker: str, ago: float = 5.0, leaving: bool = False, holds: tuple[HeldTask, ...] = ()) -> WorkerSeen:
    return WorkerSeen(
        worker=worker, actions=("a", "b"), slots=4, client="acme/1.0", seen_at=at(ago), leaving=leaving, holds=holds
    )


def body(message: WorkerSeen) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.to_json())
    return found


def state(**workers_seen: float) -> dict[str, Any]:
    """What an orchestrator publishes: each action waits, and `workers_seen` is when its last worker was seen."""
    lines = [
        {"action": a, "tenant_id": "t", "waiting": 1, "in_flight": 0, "oldest_at": None, "arrival_per_s": 0.0, "service_per_s": 0.0, "wasted": 0,
         "gate": "open", "gate_message": ""}
        for a in ("a", "b", "c")
    ]  # fmt: skip
    return {"observed_at": at(0).isoformat(), "lines": lines, "workers": workers_seen, "controls": []}


def test_a_worker_is_live_silent_or_left() -> None:
    assert [worker_of(body(w), NOW)["state"] for w in (seen("1"), seen("2", 31), seen("3", 1, True))] == [
        "live",
        "silent",
        "left",
    ]
    assert live_by_action(map(body, (seen("1"), seen("2"), seen("3", 31), seen("4", 1, True))), NOW) == {"a": 2, "b": 2}


def test_each_line_of_the_backlog_says_who_serves_it() -> None:
    found = merge([state(a=NOW - 2, b=NOW - 3600)], None, NOW, {"a": 3})
    assert [(x["workers"], x["no_worker_since"]) for x in found["lines"]] == [
        (3, None), (0, at(3600).isoformat(timespec="milliseconds").replace("+00:00", "Z")), (0, "ever"),
    ]  # fmt: skip
    found = merge([state(a=NOW - 2)], None, NOW)
    assert found["lines"][0]["workers"] == 1, "one that reports without signs of life"


def test_the_command_says_since_when_no_worker_lives() -> None:
    hour_ago = (clock.now() - timedelta(hours=1)).isoformat()
    assert live_workers({"workers": 2, "no_worker_since": None}) == "2"
    assert live_workers({"workers": 0, "no_worker_since": "ever"}) == "no worker ever"
    assert live_workers({"workers": 0, "no_worker_since": hour_ago}) == f"no worker since {hour_ago} (1.0 h)"


def test_the_list_shows_what_each_worker_has() -> None:
    task = HeldTask(job_id="job-1", tenant_id="t", step="text", action="a", file_id="f", attempt=2, since=clock.now())
    rows = [worker_of(body(w), NOW) for w in (seen("gone", 3600), seen("busy", holds=(task,)))]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table_of(rows))
    _, busy, held, gone = capture.get().splitlines()
    assert all(part in busy for part in ("busy", "live", "5 s ago", "acme/1.0", "a, b", "1 of 4 tasks"))
    assert "job job-1 step text, attempt 2" in held and "silent" in gone and "1.0 h ago" in gone


@pytest.fixture
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path_factory.mktemp("gateway")) as app:
        yield app


async def test_workers_are_for_operators_of_the_platform(made: InProcess) -> None:
    now = clock.unix()
    wrong_clock = seen("w-1").model_copy(update={"seen_at": clock.now() - timedelta(seconds=60)})
    old = seen("w-2").model_copy(update={"seen_at": clock.now() - timedelta(seconds=1000)})
    for message in (wrong_clock, old):
        await made.store.transact(lambda c, m=message: workers.save_worker(c, m, now))
    for tenant, role, status in (("default", "operator", 200), ("acme", "operator", 403), ("default", "reader", 403)):
        async with made.http(**{"x-api-key": await made.key(role, tenant)}) as http:
            answer = await http.get("/v1/workers")
        assert answer.status_code == status
        if status == 200:
            assert [(w["worker"], w["state"]) for w in answer.json()["result"]] == [("w-1", "live"), ("w-2", "silent")]
    later = {**body(old), "seen_at": at(0).isoformat()}
    assert worker_of(later, NOW + 5)["age_s"] == 5.0


async def test_an_older_sign_of_life_changes_nothing_and_a_worker_is_forgotten_after_a_day(made: InProcess) -> None:
    for ago in (500.0, 1000.0):
        await made.store.transact(lambda c, n=ago: workers.save_worker(c, seen("w", n), NOW))
    [kept] = await made.store.read(workers.all_workers)
    assert datetime.fromisoformat(kept["seen_at"]) == at(500)
    await made.store.transact(lambda c: workers.save_worker(c, seen("x", -90_000), NOW + 90_000))
    assert [w["worker"] for w in await made.store.read(workers.all_workers)] == ["x"]
