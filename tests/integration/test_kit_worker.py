"""The kit's worker as a process on a real broker: its end, its successors, its neighbours, and what Kafka refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from cli.local.plan import free_ports
from shared.embedded.kafka import EmbeddedKafka
from tests.eventually import eventually
from tests.integration.kit_bench import Bench, ended, read_topic
from tests.unit.test_kit_actions import is_running

pytestmark = pytest.mark.kafka


@pytest.fixture
async def bench(kafka_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(kafka_url, tmp_path)
    await made.set_up()
    with ended(made):
        yield made


async def test_a_running_task_is_begun_once_when_another_worker_joins(bench: Bench) -> None:
    bench.start("w-1", kinds=("hold",))
    for partition in (0, 1):
        await bench.send("hold", f"l-{partition}", partition)
    await bench.until(lambda: len(bench.noted("begun")) == 2)
    bench.start("w-2", kinds=("hold",))
    sent = 0

    async def second_has_one() -> bool:
        nonlocal sent
        bench.release(f"n-{sent}")
        await bench.send("hold", f"n-{sent}", sent % 2)
        sent += 1
        return any(name == "w-2" for _, name in bench.noted("begun"))

    await bench.until(second_has_one, 60)
    for lease in ("l-0", "l-1"):
        bench.release(lease)

    async def all_ended() -> bool:
        return len(await bench.ends()) == sent + 2

    await bench.until(all_ended)
    leases = [lease for lease, _ in bench.noted("begun")]
    assert len(leases) == len(set(leases)) == sent + 2, "each was begun once"
    ends = await bench.ends()
    assert ends["l-0"] == ends["l-1"] == ("OK", None, "w-1")


@pytest.mark.slow
async def test_a_task_that_kills_its_worker_does_not_kill_worker_after_worker(bench: Bench) -> None:
    async def done(lease: str) -> bool:
        return lease in await bench.ends()

    first = bench.start("w-0", kinds=("kill", "large"))
    await bench.send("large", "before", config={"bytes": 10})
    await bench.until(lambda: done("before"))
    await bench.send("kill", "poison")
    await bench.until(lambda: first.poll() is not None)
    second = bench.start("w-1", kinds=("kill", "large"))
    await bench.until(lambda: second.poll() is not None, 60)
    assert await bench.committed("kill") == 1, "the second worker has committed it before it began"
    last = bench.start("w-2", kinds=("kill", "large"))
    await bench.send("large", "good", config={"bytes": 10})
    await bench.until(lambda: done("good"), 60)
    assert last.poll() is None and len(bench.noted("begun")) == 2
    assert [(r.status.value, r.worker) for r in await bench.reports() if r.lease.endswith("poison")] == [("RUN", "w-1")]


@pytest.mark.parametrize("kind", ["hang", "isolated"])
async def test_sigterm_ends_a_worker_and_its_children_in_time(bench: Bench, kind: str) -> None:
    program = bench.start("w-1", drain_s=4, kinds=(kind,))
    await bench.send(kind, "l-1", heartbeat_s=0.2)
    await bench.until(lambda: len(bench.noted("child")) >= (2 if kind == "isolated" else 1))
    await bench.until(lambda: bench.committed(kind))
    program.terminate()
    assert await asyncio.to_thread(program.wait, 5.5) == 0, bench.log.read_text()
    pids = [int(pid) for (pid,) in bench.noted("child")]
    await bench.until(lambda: not any(map(is_running, pids)), 3)
    assert (await bench.ends())["l-1"] == ("QUEUED", "worker_stopped", "w-1")


@pytest.mark.slow
async def test_a_worker_whose_functions_all_hang_ends_and_says_why(bench: Bench) -> None:
    """Three tasks at a time, and three functions that never end: a supervisor gets a new process, and the children are gone."""
    program = bench.start("w-1", drain_s=4, kinds=("hang",))
    for n in range(3):
        await bench.send("hang", f"l-{n}", n % 2, timeout_s=1, heartbeat_s=0.2)
    await bench.until(lambda: len(bench.noted("child")) == 3)
    assert await asyncio.to_thread(program.wait, 30) != 0
    assert "WorkerStuck: 3 functions do not stop; a new process is needed" in bench.log.read_text()
    assert set((await bench.ends()).values()) == {("ERR", "limit_time", "w-1")}
    pids = [int(pid) for (pid,) in bench.noted("child")]
    await bench.until(lambda: not any(map(is_running, pids)), 3)


async def test_a_task_that_cannot_be_read_is_a_dead_letter(bench: Bench) -> None:
    bench.start("w-1")
    async with AIOKafkaProducer(bootstrap_servers=bench.kafka) as producer:
        await producer.send_and_wait(bench.topic("large"), b"\xff\x00", b"key", 0, headers=[("ce_type", b"?")])
    await bench.send("large", "good", 0, config={"bytes": 10})

    async def good() -> bool:
        return "good" in await bench.ends()

    await bench.until(good)
    (letter,) = await read_topic(bench.kafka, f"{bench.topic('large')}.workers.dlq")
    assert (letter.key, letter.value) == (b"key", b"\xff\x00") and dict(letter.headers)["dlq-group"] == bench.group.encode()


@pytest.fixture
async def own_bench(tmp_path: Path) -> AsyncIterator[tuple[Bench, asyncio.subprocess.Process]]:
    """A broker that the test may kill, with a low limit for reports."""
    port, controller = free_ports(2)
    broker = EmbeddedKafka(tmp_path / "kafka", port, controller)
    await asyncio.to_thread(broker.prepare)
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*broker.command, stdout=null, stderr=null)
    made = Bench(f"127.0.0.1:{port}", tmp_path)

    async def answers() -> bool:
        try:
            await made.set_up({"max.message.bytes": "50000"})
        except Exception:
            return False
        return True

    try:
        await eventually(answers, 60, 0.5)
        with ended(made):
            yield made, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_large_result_is_told_and_sigterm_ends_a_worker_without_a_broker(
    own_bench: tuple[Bench, asyncio.subprocess.Process],
) -> None:
    bench, broker = own_bench
    program = bench.start("w-1", drain_s=4)
    for lease, size in (("before", 10), ("large", 200_000), ("after", 10)):
        await bench.send("large", lease, config={"bytes": size})

    async def all_ended() -> bool:
        return len(await bench.ends()) == 3

    await bench.until(all_ended)
    found = {lease: end[:2] for lease, end in (await bench.ends()).items()}
    assert found == {"before": ("OK", None), "large": ("KO", "result_too_large"), "after": ("OK", None)}
    await bench.send("hang", "l-1")
    await bench.until(lambda: bench.noted("child"))
    broker.kill()
    await broker.wait()
    program.terminate()
    assert await asyncio.to_thread(program.wait, 6) == 0, bench.log.read_text()[-4000:]
    ((pid,),) = bench.noted("child")
    await bench.until(lambda: not is_running(int(pid)), 3)
    said = [line for line in bench.log.read_text().splitlines() if "Kafka does not answer" in line or "connect" in line.lower()]
    assert [line.split(":")[0] for line in said] == ["Kafka does not answer", "the shutdown is cut short"], said
