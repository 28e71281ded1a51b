"""Topics of a cluster, and what each of its users may do, for `stageline topics list` and `stageline grants list`."""

from __future__ import annotations

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from cli.inspect.cluster import Cluster, done
from shared.kafka.acl_admin import granted_acls


def topics_of(cluster: Cluster) -> list[dict[str, Any]]:
    """Name, partitions and replicas of each topic that is not Kafka's own, by name. Raises `CliError`."""

    async def work() -> list[dict[str, Any]]:
        admin = AIOKafkaAdminClient(**cluster.admin.options)
        await admin.start()
        try:
            names = sorted(await admin.list_topics())
            found = await admin.describe_topics(names) if names else []
        finally:
            await admin.close()
        return [
            {
                "name": topic["topic"],
                "partitions": len(topic["partitions"]),
                "replicas": max((len(p["replicas"]) for p in topic["partitions"]), default=0),
            }
            for topic in sorted(found, key=lambda topic: str(topic["topic"]))
            if not topic["is_internal"]
        ]

    return done(work(), cluster)


def grants_of(cluster: Cluster) -> list[dict[str, Any]]:
    """Each right of each user, by user. Raises `CliError`."""
    return done(granted_acls(cluster.admin), cluster)
