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
    await until(lambda: orchestrator.committed() == 3 and orchestrator.ends("l-1"))
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
    await until(lambda: orchestrator.committed() == 1 and orchestrator.ends())
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
    await until(lambda: {r.lease for r in orchestrator.ends()} == program.released)
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


async def test_a_running_task_goes_on_when_another_worker_joins(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    """It is begun once and ends under its lease, although another member has its partition."""
    await launch("w-1")
    orchestrator.send_task("l-1", partition=0)
    orchestrator.send_task("l-2", partition=1)
    await until(lambda: len(program.started) == 2)
    await launch("w-2")
    assert (orchestrator.committed(0), orchestrator.committed(1)) == (1, 1), "not delivered again: the lease watches over it"
    assert {r.lease for r in orchestrator.reports()} == {"l-1", "l-2"}, "the orchestrator knows that they run"
    orchestrator.send_task("l-3", partition=1)
    program.released |= {"l-1", "l-2", "l-3"}
    await until(lambda: len(orchestrator.ends()) == 3)
    assert sorted(program.started) == ["l-1", "l-2", "l-3"] and program.stopped == []
    assert {r.lease: r.worker for r in orchestrator.ends()} == {"l-1": "w-1", "l-2": "w-1", "l-3": "w-2"}


async def test_a_running_task_that_another_worker_has_is_stopped(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    """Kafka takes neither its report nor its offset, so the partition's next owner has it: here it must not go on."""
    await launch("w-1")
    orchestrator.send_task("l-1", partition=1)
    await until(lambda: program.started)
    orchestrator.broker.refuses_records = True
    await launch("w-2")
    await until(lambda: program.stopped == ["l-1"])
    orchestrator.broker.refuses_records = False
    program.released.add("l-1")
    await until(lambda: orchestrator.committed(1) == 1 and orchestrator.ends())
    assert program.started == ["l-1", "l-1"] and [r.worker for r in orchestrator.ends()] == ["w-2"]


async def test_a_running_task_that_nobody_else_has_goes_on(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    await launch("w-1")
    orchestrator.send_task("l-1")
    await until(lambda: program.started)
    orchestrator.broker.refuses_records = True
    await orchestrator.broker.rebalance()
    orchestrator.broker.refuses_records = False
    orchestrator.send_task("l-2")
    program.released |= {"l-1", "l-2"}
    await until(lambda: orchestrator.committed() == 2 and len(orchestrator.ends()) == 2)
    assert program.started == ["l-1", "l-2"] and len(orchestrator.ends()) == 2 and program.stopped == []


async def test_a_task_that_kills_its_workers_is_given_to_two_of_them_at_most(
    launch: Launch, orchestrator: Orchestrator, program: Program
) -> None:
    """The second worker reports and commits it before it starts. Its death leaves the lease to run out, which counts as an attempt."""
    for name in ("w-1", "w-2"):
        worker = await launch(name)
        if name == "w-1":
            orchestrator.send_task("l-1")
        await until(lambda wanted=name: len(program.started) == int(wanted[-1]))
        await worker.crash()
    assert orchestrator.committed() == 1
    await launch("w-3")
    orchestrator.send_task("l-2")
    program.released.add("l-2")
    await until(lambda: orchestrator.committed() == 2 and orchestrator.ends())
    assert program.started == ["l-1", "l-1", "l-2"]
    assert [(r.lease, r.worker, r.status.value) for r in orchestrator.reports()] == [("l-1", "w-2", "RUN"), ("l-2", "w-3", "OK")]


async def test_a_task_with_a_sign_of_life_is_its_leases(launch: Launch, orchestrator: Orchestrator, program: Program) -> None:
    worker = await launch("w-1")
    orchestrator.send_task("l-1", heartbeat_s=0.01)
    await until(lambda: orchestrator.committed() == 1)
    assert orchestrator.ends() == [] and orchestrator.reports("l-1")
    await worker.crash()
    await launch("w-2")
    orchestrator.send_task("l-2")
    await until(lambda: len(program.started) == 2)
    assert program.started == ["l-1", "l-2"]


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
    await until(lambda: orchestrator.committed() == 2 and len(orchestrator.ends()) >= 2)
    assert {r.lease for r in orchestrator.ends()} == {"l-1", "l-2"}
    assert len({r.report_id for r in orchestrator.ends()}) == 2
