"""A real Apache Kafka broker (KRaft, one node) that runs from its jars and keeps its data in a folder."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from shared.embedded.broker_security import BrokerSecurity
from shared.embedded.classes import ClassArchive
from shared.embedded.jars import ensure_jars
from shared.embedded.java import find_java
from shared.errors import Stop
from shared.kafka.credentials import write_private

HEAP = "512m"
ROOMY = ("-Xms192m", "-Xmn64m", "-XX:MetaspaceSize=64m")
"""Initial heap and young generation. Objects live as long as a long poll; in a smaller heap they reach the old generation, whose
collections stop the broker. Heap that is never used costs no memory."""
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.network.threads=1
num.io.threads=4
num.partitions=6
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.check.interval.ms=300000
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=8388608
offsets.retention.minutes=525600
metadata.max.idle.interval.ms=0
broker.heartbeat.interval.ms=2000
broker.session.timeout.ms=6000
"""
_LOG4J = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n%throwable{short.message}
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""


class EmbeddedKafka:
    """A broker with configuration, log and data in `folder`, on the loopback ports `port` and `controller`."""

    def __init__(
        self, folder: Path, port: int, controller: int, properties: str = "", users: Sequence[str] = (),
        security: BrokerSecurity | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder.resolve()
        self.port = port
        self.controller = controller
        self.properties = properties
        """Further lines of `server.properties`, which override earlier ones."""
        self.users = users
        """SCRAM users to create when the storage is formatted, as `SCRAM-SHA-512=[name=…,password=…]`."""
        self.security = security
        """Users and rights. Without it every program of this machine may do everything, which suits tests alone."""
        self._command: list[str] = []
        self.classes: ClassArchive | None = None

    @property
    def bootstrap(self) -> str:
        """The value for `KAFKA_BOOTSTRAP_SERVERS`."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Fetch the jars, write the configuration, and format new storage. Raises `Stop` with the reason."""
        java, version = find_java()
        jars = ensure_jars()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            properties = self.folder / "server.properties"
            data = self.folder / "data"
            new = not (data / "meta.properties").exists()
            made = _PROPERTIES.format(port=self.port, controller=self.controller, data=data)
            secured = self.security.prepare(self.port, self.controller, new) if self.security else ""
            write_private(properties, made + secured + self.properties)
            logging = self.folder / "log4j2.properties"
            logging.write_text(_LOG4J)
        except OSError as error:
            raise Stop("disk", f"cannot write to {self.folder}: {error.strerror or error}") from error
        base = [
            f"-Xmx{HEAP}", *ROOMY, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
            # A crash report of the JVM goes here instead of into the current folder.
            f"-Dlog4j2.configurationFile={logging}", f"-XX:ErrorFile={self.folder / 'hs_err_pid%p.log'}",
            *(["--enable-native-access=ALL-UNNAMED"] if version >= 22 else []),
            "-cp", os.pathsep.join(map(str, jars)),
        ]  # fmt: skip
        self.classes = ClassArchive(java, version, jars, self.folder)
        if new:
            # A short run: the optimizing compiler would take longer than it saves.
            self._format([str(java), "-XX:TieredStopAtLevel=1", *self.classes.reading(), *base], properties)
        self._command = [str(java), *self.classes.writing(), *base, "kafka.Kafka", str(properties)]

    def _format(self, base: list[str], properties: Path) -> None:
        cluster = new_cluster_id(uuid.uuid4().bytes)
        command = [*base, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        users = [*self.users, *(self.security.scram_users() if self.security else ())]
        command += [argument for user in users for argument in ("--add-scram", user)]
        out = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if out.returncode != 0:
            lines = [line for line in (out.stderr + out.stdout).splitlines() if line.strip() and not line.startswith("\tat")]
            raise Stop("kafka_format", f"Kafka could not prepare {self.folder}: {lines[-1] if lines else 'no reason given'}")
        if self.security is not None:
            self.security.note()

    @property
    def command(self) -> list[str]:
        """The command that runs the broker; empty before `prepare`."""
        return self._command

    def ended(self, code: int | None) -> None:
        """Call after the broker has exited with `code`: a regular stop may have written a class archive for later starts."""
        if self.classes is not None and code in (0, 143):
            self.classes.keep()


def new_cluster_id(random: bytes) -> str:
    """A cluster id as Kafka writes them, from 16 random bytes: URL-safe base64 without a leading dash, which would be an option."""
    return "S" + base64.urlsafe_b64encode(random).decode()[1:22]
