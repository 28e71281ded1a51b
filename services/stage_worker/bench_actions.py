"""Actions for tests and benchmarks, served only where `STAGELINE_TEST_ACTIONS` is set. The table of actions does not have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from services.stage_worker.ports import Action, Result
from stageline_kit import Failed, Outcome, Queued, Skipped, Task, TryAgain

FAILURES: dict[str, Callable[[str, str], Outcome]] = {
    "KO": Failed,
    "ERR": TryAgain,
    "SKIP": Skipped,
    "QUEUED": partial(Queued, 5.0),
}


async def end_as_told(task: Task) -> Result:
    """`test.outcome`: `config.sleep_s` takes time, `config.fail` ends with that status, `config.result` is the result."""
    if task.config.get("sleep_s"):
        await asyncio.sleep(float(task.config["sleep_s"]))
    if task.config.get("fail"):
        raise FAILURES[task.config["fail"]]("asked_to_fail", "The step's config asks for this failure.")
    result: Result = task.config.get("result")
    return result


TEST_ACTIONS: Mapping[str, Action] = {"test.outcome": end_as_told}
