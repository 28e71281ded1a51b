"""`apache/kafka` under testcontainers. Its own KafkaContainer relies on another vendor's scripts and refuses this image."""

from __future__ import annotations

from typing import Self

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SETTINGS = {
    "NODE_ID": "1", "PROCESS_ROLES": "broker,controller", "LISTENERS": "HOST://:9092,INTERNAL://:29092,CONTROLLER://:9093",
    "LISTENER_SECURITY_PROTOCOL_MAP": "HOST:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT", "INTER_BROKER_LISTENER_NAME": "INTERNAL",
    "CONTROLLER_LISTENER_NAMES": "CONTROLLER", "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093", "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1", "TRANSACTION_STATE_LOG_MIN_ISR": "1", "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "AUTO_CREATE_TOPICS_ENABLE": "false",
}  # fmt: skip


class ApacheKafkaContainer(DockerContainer):
    """One KRaft node. The container starts first, because the node must know its port on the host before Kafka starts."""

    def __init__(self, image: str) -> None:
        super().__init__(image)
        self.with_exposed_ports(9092)
        wait = "until [ -f /tmp/listeners ]; do sleep 0.1; done;"
        self.with_command(["bash", "-c", f"{wait} KAFKA_ADVERTISED_LISTENERS=$(cat /tmp/listeners) exec /etc/kafka/docker/run"])
        for name, value in SETTINGS.items():
            self.with_env(f"KAFKA_{name}", value)

    def bootstrap_server(self) -> str:
        """Its bootstrap address for this machine."""
        return f"{self.get_container_host_ip()}:{self.get_exposed_port(9092)}"

    def start(self) -> Self:
        """Start the container; returns when Kafka is ready."""
        super().start()
        listeners = f"HOST://{self.bootstrap_server()},INTERNAL://localhost:29092"
        self.exec(["sh", "-c", f"echo {listeners} >/tmp/part && mv /tmp/part /tmp/listeners"])
        LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(60).wait_until_ready(self)
        return self
