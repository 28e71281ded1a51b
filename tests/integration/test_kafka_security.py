"""A cluster with TLS, passwords and an authorizer: the pipeline runs, and every service is denied on the others' topics."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import GroupAuthorizationFailedError
from cryptography.hazmat.primitives import serialization

from cli.client import Client, Target
from cli.commands.submit import submit_files
from cli.inspect.cluster import every_topic
from contracts import TOPICS, task_topic
from contracts.topics import BUILT_IN_ACTIONS
from shared.embedded.kafka import EmbeddedKafka
from shared.kafka.acls import GROUPS, OUTSIDE, acls_for
from shared.kafka.connection import KafkaAccess
from shared.web.key_format import new_key
from tests.eventually import eventually
from tests.kafka_rights import may_read, may_write
from tests.servers import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SERVICES = list(GROUPS)
SECURE = """
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://127.0.0.1:{port}
inter.broker.listener.name=SASL_SSL
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="admin" password="admin-secret";
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
allow.everyone.if.no.acl.found=false
"""


@dataclass
class Cluster:
    """A secured broker; `environment(user)` is what a program of that user needs."""

    folder: Path
    port: int

    def environment(self, user: str) -> dict[str, str]:
        password = self.folder / f"{user}.password"
        password.write_text(f"{user}-secret\n")
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.port}", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(password), "KAFKA_SSL_CAFILE": str(self.folder / "ca.pem"),
        }  # fmt: skip

    def access(self, user: str) -> KafkaAccess:
        return KafkaAccess(**{k.removeprefix("KAFKA_").lower(): v for k, v in self.environment(user).items()})  # type: ignore[arg-type]


def certificates(folder: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(plain + b"".join(part.bytes() for part in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("secure")
    certificates(folder)
    port, controller = free_port(), free_port()
    users = ["admin", *(f"stageline-{s}" for s in SERVICES), *OUTSIDE]
    scram = [f'SCRAM-SHA-512=[name="{u}",password="{u}-secret"]' for u in users]
    broker = EmbeddedKafka(
        folder / "kafka", port, controller, SECURE.format(port=port, controller=controller, folder=folder), scram
    )
    await asyncio.to_thread(broker.prepare)
    with (folder / "kafka.log").open("wb") as log:
        process = subprocess.Popen(broker.command, stdout=log, stderr=log)
    made = Cluster(folder, port)

    async def ready() -> bool:
        return await asyncio.to_thread(applied, made)

    await eventually(ready, 60, 0.5)
    yield made
    process.terminate()
    broker.ended(process.wait(30))


def applied(cluster: Cluster) -> bool:
    """`stageline kafka apply`, as an administrator runs it."""
    command = [sys.executable, "-m", "cli", "kafka", "apply", "--replication", "1", "--partitions", "2"]
    out = subprocess.run(command, env={**os.environ, **cluster.environment("admin")}, capture_output=True, text=True)
    return out.returncode == 0 and "ACLs are granted" in out.stdout


NAMES = [t.name for t in TOPICS] + [task_topic("text.extract").name]


async def start(cluster: Cluster, service: str, port: int, folder: Path, stack: AsyncExitStack) -> None:
    """Start one service as its own Kafka user; returns when it is ready. The exit stack ends it."""
    environment = {
        **os.environ, **cluster.environment(f"stageline-{service}"), "STAGELINE_DATA_DIR": str(folder / "data"), "STAGELINE_PORT": str(port),
        "STAGELINE_CREATE_TOPICS": "0", "STAGELINE_ADMIN_KEY_FILE": str(folder / "admin.key"), "STAGELINE_INSTANCE": service,
        "STAGELINE_TEST_ACTIONS": "0",  # their topics are not among those of a deployment
    }  # fmt: skip
    log = stack.enter_context((folder / f"{service}.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"services.{service}", env=environment, stdout=log, stderr=log
    )
    stack.push_async_callback(process.wait)
    stack.callback(process.terminate)

    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/health/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    try:
        await eventually(ready, 120, 0.2)
    except AssertionError:
        pytest.fail(f"{service}: {(folder / f'{service}.log').read_text()[-3000:]}")


@pytest.mark.timeout(300)
async def test_the_pipeline_runs_with_least_privilege(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text(new_key())
    (tmp_path / "note.txt").write_text("Invoice No: 1\nTotal due: EUR 1.50\n")
    ports = {service: free_port() for service in SERVICES}
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(start(cluster, service, port, tmp_path, stack) for service, port in ports.items()))
        urls = (f"http://127.0.0.1:{ports[s]}" for s in ("ingest", "notifier"))
        async with Client(Target(*urls, (tmp_path / "admin.key").read_text())) as client:
            job = await submit_files(client, [tmp_path / "note.txt"], {"workflow": "documents", "metadata": None})

            async def completed() -> bool:
                return bool((await client.call("GET", f"/api/job/detail/{job}"))["stage"] == "completed")

            await eventually(completed, 60)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_is_denied_on_the_others_topics(cluster: Cluster, service: str) -> None:
    granted = {
        (acl.operation, name)
        for acl in acls_for(service)
        for name in NAMES
        if acl.name == name or (acl.prefixed and name.startswith(acl.name))
    }
    user = f"stageline-{service}"
    # Permitted writes are not tried, because they would leave records. The running pipeline shows that they work.
    tried = [("READ", name) for name in NAMES] + [("WRITE", name) for name in NAMES if ("WRITE", name) not in granted]
    allowed = await asyncio.gather(
        *((may_read if verb == "READ" else may_write)(cluster.access(user), name) for verb, name in tried)
    )
    found = {right for right, yes in zip(tried, allowed, strict=True) if yes}
    assert found == {right for right in granted if right[0] == "READ"}


async def test_an_outside_program_gets_the_rights_of_its_role_and_no_more(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "cli", "kafka"]
    environment = {**os.environ, **cluster.environment("admin")}
    grant = [*command, "grant", "consumers", "consumers"]
    out = await asyncio.to_thread(subprocess.run, grant, env=environment, capture_output=True, text=True)
    assert out.returncode == 0 and "ACLs of consumers" in out.stdout, out.stderr
    access = cluster.access("consumers")
    allowed = await asyncio.gather(may_read(access, "job.events"), may_read(access, "job.commands"))
    assert allowed == [True, False] and not await may_write(access, "job.events")
    shown = await asyncio.to_thread(subprocess.run, [*command, "show", "consumers"], capture_output=True, text=True)
    assert "--operation Read --topic job.events" in shown.stdout
    for words in (["show", "nobody"], ["grant", "u", "nobody"]):
        refused = await asyncio.to_thread(subprocess.run, [*command, *words], capture_output=True, text=True)
        assert refused.returncode == 2 and "'nobody' is not one of" in refused.stderr


async def test_a_group_is_its_owners_alone(cluster: Cluster) -> None:
    consumer = AIOKafkaConsumer("job.events", **cluster.access("stageline-notifier").options, group_id="ingest")
    with pytest.raises(GroupAuthorizationFailedError):
        await consumer.start()
        await consumer.getmany(timeout_ms=2000)
    await consumer.stop()


async def test_a_wrong_password_is_reported_in_one_line(cluster: Cluster) -> None:
    environment = {**os.environ, **cluster.environment("admin"), "KAFKA_SASL_PASSWORD": "wrong"}
    out = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli", "kafka", "apply"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert out.returncode != 0 and len(out.stderr.strip().splitlines()) == 1 and "Traceback" not in out.stderr, out.stderr


def test_every_group_and_topic_of_the_code_is_in_the_table() -> None:
    assert {t.name for t in every_topic(BUILT_IN_ACTIONS)} >= set(NAMES)
    for name in ("session.commands.session.dlq", "access.events.ingest-access.dlq", "stage.tasks.noop.stage_worker.dlq"):
        assert name in {t.name for t in every_topic(BUILT_IN_ACTIONS)}
