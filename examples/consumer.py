"""Count finished jobs exactly once, whatever happens to this program. Install the kit by its path: pip install ../contracts ../stageline_kit"""

import asyncio
import sqlite3
import sys

from contracts import JobFinished
from stageline_kit import Consumer, Inbox


async def main(bootstrap: str, database: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE IF NOT EXISTS tally (kind TEXT PRIMARY KEY, n INTEGER NOT NULL)")
    count = "INSERT INTO tally VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET n = n + 1"
    inbox = Inbox(connection)
    async with Consumer(bootstrap, group="consumers.acme-tally", instance="tally-1", topics=["job.events"]) as consumer:
        async for batch in consumer:
            with inbox.transaction(batch) as events:  # only those that were not counted before
                for event in events:
                    connection.execute(count, ("events",))
                    if isinstance(event.message, JobFinished):
                        connection.execute(count, ("finished",))
            await batch.commit()


asyncio.run(main(sys.argv[1], sys.argv[2]))
