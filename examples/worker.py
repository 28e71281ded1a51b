"""A step of your own. Install the kit by its path: pip install ../contracts ../stageline_kit"""

import asyncio
import sys

from stageline_kit import Failed, Task, Worker

worker = Worker(sys.argv[1], "acme-1", concurrency=8)


@worker.action("acme.shout")
async def shout(task: Task) -> dict[str, str]:
    task.progress(0, 1)
    if "text" not in task.config:
        raise Failed("no_text", "The step's configuration has no text.")
    return {"shout": task.config["text"].upper()}


asyncio.run(worker.run())
