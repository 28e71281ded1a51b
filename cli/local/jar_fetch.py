"""Fetches the broker's jars at the first start, and shows how many are there."""

from __future__ import annotations

import asyncio

from cli.progress import progress
from shared.embedded import jars


async def fetch_jars() -> None:
    """Fetch the jars that the cache lacks. Raises `Stop` when that fails."""
    total = len(jars.missing())
    if not total:
        return
    fetching = asyncio.create_task(asyncio.to_thread(jars.ensure_jars))
    with progress("fetched", "jars of Kafka") as report:
        while not fetching.done():
            report(total - len(jars.missing()), total)
            await asyncio.wait({fetching}, timeout=0.5)
    await fetching
