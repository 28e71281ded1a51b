"""Several workers and a Kafka that is not always there: crashes, rebalances, refused reports. Nothing is lost."""

from __future__ import annotations

import pytest

from tests.conformance.workers.conftest import Launch
from tests.conformance.workers.harness import Orchestrator, Program, until


async def test_a_task_survives_the_crash_of_its_worker(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    first = await launch("w-1")
    for lease in ("l-1", "l-2", "l-3"):
        orchestrator.send_task(lease)
    program.released |= {"l-2", "l-3"}
    await until(lambda: len(orchestrator.ends()) == 2)
    await first.crash()
    program.released.add("l-1")
    await launch("w-2")
    await until(lambda: orchestrator.committed() == 3)
    assert [r.worker for r in orchestrator.ends("l-1")] == ["w-2"], "the same lease, answered by the survivor"


async def test_a_result_that_kafka_does_not_have_dies_with_its_worker(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    first = await launch("w-1")
    orchestrator.broker.refuses_records = True
    program.released.add("l-1")
    orchestrator.send_task("l-1")
    await until(lambda: program.started and not program.at_once)
    await first.crash()
    assert orchestrator.committed() == 0 and orchestrator.ends() == []
    orchestrator.broker.refuses_records = False
    await launch("w-2")
    await until(lambda: orchestrator.committed() == 1)
    assert [r.worker for r in orchestrator.ends()] == ["w-2"]


async def test_reports_that_kafka_refuses_are_sent_later_in_their_order(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    await launch()
    orchestrator.broker.refuses_records = True
    leases = [f"l-{n}" for n in range(5)]
    for lease in leases:
        program.released.add(lease)
        orchestrator.send_task(lease)
        await until(lambda wanted=lease: wanted in program.started and not program.at_once)
    assert orchestrator.committed() == 0
    orchestrator.broker.refuses_records = False
    await until(lambda: orchestrator.committed() == 5)
    assert [r.lease for r in orchestrator.ends()] == leases


@pytest.mark.parametrize("refused", [False, True], ids=["reports_sent", "reports_refused"])
async def test_a_rebalance_gives_away_what_is_not_begun(
    launch: Launch, orchestrator: Orchestrator, program: Program, refused: bool
) -> None:
    await launch("w-1", concurrency=1)
    orchestrator.broker.refuses_records = refused
    program.released.add("a-0")
    for n in range(4):
        orchestrator.send_task(f"a-{n}", partition=0)
    for n in range(3):
        orchestrator.send_task(f"b-{n}", partition=1)
    await until(lambda: len(program.started) == 2)
    await launch("w-2", concurrency=1)
    orchestrator.broker.refuses_records = False
    program.released |= {f"a-{n}" for n in range(4)} | {f"b-{n}" for n in range(3)}
    await until(lambda: orchestrator.committed(0) == 4 and orchestrator.committed(1) == 3)
    began = set(program.started[:2])
    ended = {(r.lease, r.worker) for r in orchestrator.ends() if r.lease not in began}
    assert {r.lease for r in orchestrator.ends()} == program.released
    assert {worker for lease, worker in ended if lease.startswith("a")} == {"w-1"}
    assert {worker for lease, worker in ended if lease.startswith("b")} == {"w-2"}


async def test_a_rebalance_commits_what_is_finished(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch("w-1")
    program.released |= {"l-1", "l-2"}
    orchestrator.send_task("l-1", partition=1)
    orchestrator.send_task("l-2", partition=1)
    await until(lambda: len(orchestrator.ends()) == 2)
    await launch("w-2")
    assert orchestrator.committed(1) == 2, "before the partition changes hands"
    orchestrator.send_task("l-3", partition=1)
    program.released.add("l-3")
    await until(lambda: orchestrator.committed(1) == 3)
    assert [r.worker for r in orchestrator.ends()] == ["w-1", "w-1", "w-2"]


async def test_a_task_that_comes_back_while_it_runs_is_answered_once(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    await launch("w-1")
    orchestrator.send_task("l-1", partition=0)
    await until(lambda: program.started)
    await orchestrator.broker.rebalance()
    orchestrator.send_task("l-2", partition=0)
    program.released.add("l-2")
    await until(lambda: orchestrator.ends("l-2"))
    assert orchestrator.committed() == 0
    program.released.add("l-1")
    await until(lambda: orchestrator.committed() == 2)
    assert program.started == ["l-1", "l-2"] and len(orchestrator.ends()) == 2


async def test_reports_refused_during_a_rebalance_keep_no_partition_stuck(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    await launch("w-1")
    orchestrator.broker.refuses_records = True
    program.released |= {"l-1", "l-2"}
    orchestrator.send_task("l-1")
    await until(lambda: program.started and not program.at_once)
    await orchestrator.broker.rebalance()
    orchestrator.broker.refuses_records = False
    orchestrator.send_task("l-2")
    await until(lambda: orchestrator.committed() == 2)
    assert {r.lease for r in orchestrator.ends()} == {"l-1", "l-2"}
    assert len({r.report_id for r in orchestrator.ends()}) == 2
