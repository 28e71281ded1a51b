"""The unchanged compose file: documents from the host, services scaled and killed during the work, then all stores compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client, CliError, Target
from cli.commands.submit import submit_files
from tests.compose.check import Findings, check
from tests.compose.deployment import ROOT, Compose
from tests.eventually import eventually
from tests.tiers import needs

pytestmark = [pytest.mark.docker, pytest.mark.slow, needs("docker")]
JOBS, FILES = 20, 25
SCALE = ["--scale", "job_orchestrator=3", "--scale", "stage_worker=4", "--scale", "session=2", "--scale", "notifier=1"]
STRUCK = ["job_orchestrator", "stage_worker", "session", "notifier", "ingest", "kafka", "postgres"]


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    project = Compose("stageline-test", {"STAGELINE_TRUSTED_NETWORKS": '["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"]'})
    project("down", "-v", "--remove-orphans")
    project("build", timeout=600)
    project("up", "-d", "--wait")
    yield project
    project("down", "-v", "--remove-orphans")


class Hooks:
    """A webhook receiver in a container of the same network."""

    def __init__(self, compose: Compose) -> None:
        command = ["docker", "run", "-d", "--rm", "--no-healthcheck", "--network", f"{compose.project}_default", "--entrypoint", "python",
                   "-v", f"{ROOT}/tests/compose/receiver.py:/receiver.py:ro", "--read-only", "stageline:local", "/receiver.py"]  # fmt: skip
        self.container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        shown = subprocess.run(["docker", "inspect", self.container], capture_output=True, text=True, check=True).stdout
        [network] = json.loads(shown)[0]["NetworkSettings"]["Networks"].values()
        self.url = f"http://{network['IPAddress']}:8000/hook"

    def lines(self) -> list[str]:
        """The requests received so far."""
        out = subprocess.run(["docker", "logs", self.container], capture_output=True, text=True, check=True).stdout
        return [line for line in out.splitlines() if line.startswith("{")]

    def stop(self) -> None:
        """Remove it."""
        subprocess.run(["docker", "kill", self.container], capture_output=True, check=True)


@pytest.fixture(scope="module")
def hooks(compose: Compose) -> Iterator[Hooks]:
    made = Hooks(compose)
    yield made
    made.stop()


@pytest.fixture(scope="module")
async def client(compose: Compose) -> AsyncIterator[Client]:
    async with Client(Target(compose.url, compose.notifier_url, compose.key())) as made:
        yield made


def documents(folder: Path) -> list[Path]:
    """A page of documents: text, and one PDF of the samples."""
    folder.mkdir()
    shutil.copy(ROOT / "samples" / "documents" / "invoice-acme-2026-0042.pdf", folder)
    for n in range(FILES - 1):
        (folder / f"note-{n}.txt").write_text(f"Invoice No: N-{n}\nDate: 2026-01-02\nTotal due: EUR {n}.50\n")
    return sorted(folder.iterdir())


async def strike(compose: Compose, struck: list[str]) -> None:
    """Scale out, then kill a container of each kind in sequence, each after the one before is back. `struck` gets the times."""
    await asyncio.to_thread(compose, "up", "-d", "--no-recreate", *SCALE)
    for service in STRUCK:
        struck.append(f"{datetime.now(UTC):%T} {service}")
        back = await asyncio.to_thread(compose.crash, service)

        async def settled(back: Callable[[], bool] = back) -> bool:
            return await asyncio.to_thread(back)

        await eventually(settled, 180, 0.5)
    struck.append(f"{datetime.now(UTC):%T} all of them are back")


@pytest.mark.timeout(900)
async def test_nothing_is_lost_or_doubled_while_services_are_scaled_and_struck(
    compose: Compose, hooks: Hooks, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A killed broker takes more than the default minute on a machine as busy as this.
    monkeypatch.setattr("cli.client.PATIENCE_S", 240.0)
    endpoint = await client.call("POST", "/v1/webhooks", notifier=True, json={"url": hooks.url})
    files = documents(tmp_path / "documents")

    async def submit() -> list[str]:
        return [await submit_files(client, files, {"workflow": "documents", "metadata": None}) for _ in range(JOBS)]

    struck: list[str] = []
    striking = asyncio.create_task(strike(compose, struck))
    try:
        jobs = await submit()
        await striking
    except (AssertionError, CliError) as error:
        striking.cancel()
        error.add_note(f"{struck} at {datetime.now(UTC):%T}\n{await asyncio.to_thread(compose.state)}")
        raise

    async def ended() -> bool:
        stages = [(await client.call("GET", f"/api/job/detail/{job}"))["stage"] for job in jobs]
        assert not {"failed", "invalid", "cancelled"} & set(stages)
        return all(stage == "completed" for stage in stages)

    await eventually(ended, 400, 0.5)  # a busy machine
    found = Findings()

    async def settled() -> bool:
        nonlocal found
        found = await check(compose, await asyncio.to_thread(hooks.lines), endpoint["secret"])
        return not found.faults

    with contextlib.suppress(AssertionError):  # the comparison below gives a better message than a timeout here
        # A delivery that fails twice, as it may on a busy machine, is retried after five minutes.
        await eventually(settled, 400, 2.0)
    print(json.dumps(found.counts, indent=1))
    assert not found.faults, found.counts
    assert found.counts["files done"] == JOBS * FILES and found.counts["stages"] == {"completed": JOBS}


async def test_containers_are_confined(compose: Compose) -> None:
    for service in ("ingest", "session", "job_orchestrator", "stage_worker", "notifier"):
        for container in compose.containers(service):
            shown: Any = json.loads(
                subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True).stdout
            )[0]
            assert shown["HostConfig"]["ReadonlyRootfs"] and shown["HostConfig"]["CapDrop"] == ["ALL"]
            assert shown["Config"]["User"] == "stageline" and shown["HostConfig"]["Memory"] > 0
            stop = subprocess.run(["docker", "stop", "-t", "30", container], capture_output=True, text=True, check=True)
            assert stop.returncode == 0
            code = subprocess.run(
                ["docker", "inspect", "-f", "{{.State.ExitCode}}", container], capture_output=True, text=True, check=True
            )
            assert code.stdout.strip() == "0", f"{service} did not stop by itself"
            break


def test_the_image_says_what_it_is_and_what_it_holds(compose: Compose) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shown = subprocess.run(["docker", "inspect", "stageline:local"], capture_output=True, text=True, check=True).stdout
    labels = json.loads(shown)[0]["Config"]["Labels"]
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.version"] == project["version"] and labels[f"{prefix}.licenses"] == project["license"]
    assert labels[f"{prefix}.description"] == project["description"]
    assert {f"{prefix}.{name}" for name in ("title", "revision", "created", "source")} <= set(labels)
    read = ["docker", "run", "--rm", "--entrypoint", "cat", "stageline:local", "/usr/share/doc/stageline/sbom.cdx.json"]
    contents = json.loads(subprocess.run(read, capture_output=True, text=True, check=True).stdout)
    assert contents["metadata"]["component"]["name"] == "stageline"
    names = {component["name"] for component in contents["components"]}
    assert "aiokafka" in names and not names & {"jgo", "cyclonedx-bom"}


def shell(section: str, compose: Compose) -> str:
    """Run the commands of a section of docs/how-to/deploy.md, with the project's own name and ports; returns their output."""
    page = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
    script = page.partition(f"## {section}\n")[2].partition("```sh\n")[2].partition("```")[0]
    assert script.startswith("docker compose"), section
    for port, mine in (("8080", compose.environment["STAGELINE_PORT"]), ("8081", compose.environment["STAGELINE_NOTIFIER_PORT"])):
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{mine}")
    script = re.sub(r"^stageline ", f"{sys.executable} -m cli ", script, flags=re.M)
    environment = {**os.environ, **compose.environment, "COMPOSE_PROJECT_NAME": compose.project}
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:] + compose.state()
    return done.stdout


@pytest.mark.timeout(450)
@pytest.mark.parametrize("section", ["Compose", "Three brokers"])
def test_the_commands_of_the_deployment_guide_run_as_they_stand(section: str) -> None:
    compose = Compose(f"stageline-{section.lower().replace(' ', '-')}")
    compose("--profile", "cluster", "down", "-v", "--remove-orphans")  # leftovers of a killed run
    try:
        out = shell(section, compose)
        assert section != "Compose" or "completed  14/14 files" in out
    finally:
        compose("--profile", "cluster", "down", "-v", "--remove-orphans")


def test_the_telemetry_profile_is_valid() -> None:
    compose = Compose("stageline-config")
    shown = compose("--profile", "telemetry", "--profile", "cluster", "config", "--services").split()
    assert {"otel-collector", "kafka-2", "kafka-3", "ingest", "postgres"} <= set(shown)
