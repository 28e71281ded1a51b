"""Embedded mode for an operator: start, errors in one line, stop, and a restart with all data."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from cli.client import Client
from cli.commands.submit import submit_files
from shared.embedded.classes import AOT
from shared.embedded.jars import cache_folder
from shared.embedded.java import find_java
from tests.command_line import run_command
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.outside import read_all
from tests.e2e.test_control import make
from tests.e2e.test_gateway import ended
from tests.eventually import eventually
from tests.pipelines import RestartablePipeline

pytestmark = pytest.mark.kafka


def up(data_dir: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command(["up", "--data-dir", str(data_dir), *options], {**os.environ, **environment})


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("stageline: "), result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def detached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline started by `stageline up --detach`. The tests of it follow each other: it runs, runs again, is stopped and cleared."""
    where = Pipeline(tmp_path_factory.mktemp("detached") / "d")
    detach(where)
    yield where
    where.command("down")


def detach(where: Pipeline) -> None:
    started = where.command("up", "--detach", "--port", "0", "--kafka-port", "0", "--allow-loopback")
    assert started.returncode == 0 and "admin key" in started.stdout, started.stderr


def submitted(where: Pipeline, *options: str) -> subprocess.CompletedProcess[str]:
    done = where.command("submit", str(SAMPLES / "contract-nda.pdf"), "--watch", *options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
async def test_a_second_up_finds_its_jobs_and_events_again(detached: Pipeline) -> None:
    key_file = Path(detached.state["key_file"])
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_text()
    job = json.loads(submitted(detached, "--json").stdout)
    assert detached.command("down").returncode == 0
    detach(detached)
    java, version = find_java()
    if (
        version >= AOT or (java.resolve().parents[1] / "lib" / "server" / "classes.jsa").exists()
    ):  # not every Java supports a class archive
        mapped = Path(f"/proc/{detached.state['pids']['kafka']}/maps").read_text()
        assert str(cache_folder()) in mapped and ".jsa" in mapped, "the broker maps the class archive of an earlier one"
    assert key_file.read_text() == key
    async with Client(detached.target()) as client:
        again = await client.call("GET", f"/v1/jobs/{job['id']}")
    assert again["stage"] == "completed" and again["files"] == job["files"]
    events = detached.command("events", "--job", job["id"], "--json")
    names = [json.loads(line)["type"] for line in events.stdout.splitlines()]
    assert names.count("job.finished") == 1 and names.count("file.done") == 1
    submitted(detached)


@pytest.mark.slow
async def test_the_topics_and_the_stores_agree(detached: Pipeline) -> None:
    async with Client(detached.target()) as mine:
        files = [SAMPLES / "invoice-globex-117.pdf", SAMPLES / "locked-invoice.pdf"]
        done = await submit_files(mine, files, {"workflow": "documents"})
        await ended(mine, done)
        for _ in range(5):
            await ended(mine, await make(mine, "noop-five"))
        jobs = len((await mine.call("GET", "/v1/jobs"))["result"])
    found = detached.command("verify", "--json")
    report = json.loads(found.stdout)
    assert found.returncode == 0 and report["jobs"] == jobs and report["differences"] == [], found.stdout + found.stderr
    await put_back_state(detached, done)
    found = detached.command("verify")
    assert found.returncode == 1 and f"{done}: the records of job.state say sequence is 1, the store" in found.stdout
    with sqlite3.connect(detached.data_dir / "ingest.db") as store:
        store.execute("UPDATE job_view SET body = json_set(body, '$.stage', 'failed') WHERE id = ?", [done])
    found = detached.command("verify")
    assert found.returncode == 1 and f"{done}: the read model say stage is 'failed', the store 'completed'" in found.stdout


async def put_back_state(where: Pipeline, job: str) -> None:
    """Publish a state of before as the job's last one."""

    async def of_the_end() -> Any:
        """The state of the end, which is published after its event."""
        last = [record for record in await read_all(where, "job.state") if record.key == job.encode()][-1]
        return last if json.loads(last.value)["stage"] == "completed" else None

    last = await eventually(of_the_end, 20)
    value = json.dumps(json.loads(last.value) | {"sequence": 1}).encode()
    async with AIOKafkaProducer(**where.access.options) as producer:
        await producer.send_and_wait("job.state", value, last.key, partition=last.partition, headers=list(last.headers))


def complaints(where: Pipeline) -> list[str]:
    """Lines of the services' logs that are errors, or that are no JSON."""
    found = []
    for path in sorted((where.data_dir / "logs").glob("*.log")):
        for line in path.read_text().splitlines() if path.name != "kafka.log" else ():
            if not line.startswith("{") or json.loads(line)["level"] in ("ERROR", "CRITICAL"):
                found.append(f"{path.name}: {line}")
    return found


@pytest.mark.slow
def test_down_and_reset(detached: Pipeline) -> None:
    assert detached.command("jobs").returncode == 0
    assert detached.command("down").returncode == 0
    assert list((detached.data_dir / "logs").glob("*.log")) and complaints(detached) == [], "two starts, jobs, and two stops"
    assert detached.command("down").returncode == 3
    assert detached.command("jobs").returncode == 3
    assert detached.command("reset", "--yes").returncode == 0 and not detached.data_dir.exists()


@pytest.mark.slow
async def test_the_pipeline_recovers_when_the_fork_server_is_killed(restartable: RestartablePipeline) -> None:
    before = restartable.state["pids"]
    await asyncio.to_thread(submitted, restartable)
    os.kill(before["forkserver"], signal.SIGKILL)

    async def all_new() -> bool:
        now = restartable.state["pids"]
        return now.keys() == before.keys() and all(now[name] != pid for name, pid in before.items() if name != "kafka")

    await eventually(all_new, 60)
    assert restartable.state["pids"]["kafka"] == before["kafka"]

    async def done() -> bool:  # the first calls may come before the gateway is ready
        asked = await asyncio.to_thread(restartable.command, "submit", str(SAMPLES / "contract-nda.pdf"), "--watch")
        return asked.returncode == 0

    await eventually(done, 60)


def test_a_port_in_use_is_reported_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        assert f"port {port} for ingest is in use" in one_line(up(tmp_path / "a", "--port", str(port), "--kafka-port", "0"))
        assert f"port {port} for kafka is in use" in one_line(up(tmp_path / "b", "--port", "0", "--kafka-port", str(port)))
    assert not (tmp_path / "a" / "run" / "state.json").exists()
    assert list((tmp_path / "a" / "logs").iterdir()) == [], "no process was started"


def test_a_java_that_is_too_old(tmp_path: Path) -> None:
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    line = one_line(up(tmp_path / "d", "--port", "0", "--kafka-port", "0", JAVA_HOME=str(tmp_path / "jdk")))
    assert "Java 11" in line and "needs 17" in line


def test_no_network_at_the_first_start(tmp_path: Path) -> None:
    proxy = "http://127.0.0.1:9"
    nowhere = {
        "http_proxy": proxy,
        "https_proxy": proxy,
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "no_proxy": "",
        "HOME": str(tmp_path / "home"),
    }
    line = one_line(
        up(
            tmp_path / "d",
            "--port",
            "0",
            "--kafka-port",
            "0",
            STAGELINE_CACHE=str(tmp_path / "cache"),
            XDG_CACHE_HOME=str(tmp_path / "xdg"),
            **nowhere,
        )
    )
    assert "needs the network once" in line


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in one_line(up(tmp_path / "file" / "d", "--port", "0", "--kafka-port", "0"))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.local import plan
    from shared.errors import Stop

    monkeypatch.setattr(plan, "MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(Stop, match="MiB left"):
        plan.prepare_data_dir(tmp_path / "d", tmp_path / "d" / "admin.key")


def test_two_pipelines_in_one_directory_are_refused(pipeline: Pipeline) -> None:
    assert "already runs" in one_line(up(pipeline.data_dir, "--port", "0", "--kafka-port", "0"))


def test_reset_refuses_while_running_and_strange_folders(pipeline: Pipeline, tmp_path: Path) -> None:
    assert pipeline.command("reset", "--yes").returncode == 1
    assert Pipeline(tmp_path).command("reset", "--yes").returncode == 2


def test_doctor_says_what_is_here(tmp_path: Path) -> None:
    said = Pipeline(tmp_path / "d").command("doctor")
    assert said.returncode == 0
    for what in ("python", "java", "kafka 4.3.1", "disk", "tesseract", "sandbox"):
        assert what in said.stdout


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_up_right_after_the_supervisor_was_killed(tmp_path: Path) -> None:
    where = Pipeline(tmp_path / "d")
    await asyncio.to_thread(where.start)
    state = where.state
    options = ["--port", str(state["ports"]["ingest"]), "--kafka-port", str(state["ports"]["kafka"])]
    assert where.process is not None
    where.process.kill()
    where.process.wait()
    again = Pipeline(where.data_dir, ["--port", str(state["ports"]["ingest"])])
    (where.data_dir / "run" / "state.json").unlink()
    try:
        await asyncio.to_thread(again.start)
        assert again.state["ports"]["ingest"] == state["ports"]["ingest"], options
        assert "an earlier supervisor was killed" in (where.data_dir / "up.log").read_text()
        await asyncio.to_thread(submitted, again)
    finally:
        await asyncio.to_thread(again.stop)
