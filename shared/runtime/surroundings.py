"""Health checks of what every service needs around it: a broker that answers, and room on its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.runtime.disk_space import shortage
from shared.settings import Settings

ANSWER_S = 1.5


def checks_of(producer: AIOKafkaProducer, settings: Settings) -> list[Callable[[], Awaitable[str | None]]]:
    """Checks for `Health.checks`. A check's name is the name of its reason."""
    # Where database and objects are elsewhere, the data directory is not used.
    local = settings.database_url is None or (settings.object_store_url or "file:").startswith("file:")

    async def disk() -> str | None:
        return shortage(settings.data_dir) if local else None

    async def kafka() -> str | None:
        return None if await answers(producer.client) else "no broker answers"

    return [disk, kafka]


async def answers(client: Any) -> bool:
    """True while the client is connected to a broker, or can be."""
    if any(connection.connected() for connection in client._conns.values()):
        return True
    try:
        return bool(await asyncio.wait_for(client.force_metadata_update(), ANSWER_S))
    except (KafkaError, TimeoutError):
        return False
