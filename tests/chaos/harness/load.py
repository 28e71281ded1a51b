"""Carries out the load of a plan: submissions at their times, and operators' verbs on jobs of earlier entries."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tests.chaos.harness.door import Door, Unanswered
from tests.chaos.harness.evidence import Accepted
from tests.chaos.harness.plan import VERBS, Plan, Request
from tests.chaos.harness.system import now, passed
from tests.chaos.harness.ways import Ways

LINKED_S = 60.0
"""How long a verb waits for the request that makes its job."""


class Load:
    """The running load. `accepted` grows; each entry is a task of its own, so that a slow answer delays no other."""

    def __init__(self, plan: Plan, ways: Ways, door: Door) -> None:
        self.plan = plan
        self.ways = ways
        self.door = door
        self.accepted: dict[int, Accepted] = {}
        self.verbs: list[tuple[str, int]] = []
        """Verb and status of each that was answered."""
        self._made: dict[int, asyncio.Task[None]] = {}
        self._paused: set[str] = set()
        self._controls: set[str] = set()

    async def run(self) -> None:
        """Begin every entry at its time. Returns when all have been answered."""
        began = now()
        for entry in self.plan.load:
            await passed(began + entry.at - now())
            self._made[entry.number] = asyncio.create_task(self._entry(entry))
        await asyncio.gather(*self._made.values())
        await self._release()

    async def _entry(self, entry: Request) -> None:
        if entry.way not in VERBS:
            made = await self.ways.submit(entry)
            if made is not None:
                self.accepted[entry.number] = made
            return
        await asyncio.wait({self._made[entry.target]}, timeout=LINKED_S)
        job = self.accepted.get(entry.target)
        if job is not None and job.job_id is not None:
            with contextlib.suppress(Unanswered):
                await getattr(self, f"_{entry.way}")(entry, job)

    async def _call(self, verb: str, method: str, path: str, **more: Any) -> tuple[int, Any]:
        # 404: a command over Kafka may not have made its job yet, or the job is erased. 409: it has ended.
        status, body = await self.door.call(method, path, expected=(404, 409), **more)
        self.verbs.append((verb, status))
        return status, body

    async def _cancel(self, entry: Request, job: Accepted) -> None:
        # Even a cancel that is refused as repeated may be one whose first answer was lost.
        job.ends |= {"cancelled"}
        status, _ = await self._call("cancel", "POST", f"/v1/jobs/{job.job_id}/cancel", json={"reason": "chaos"})
        if status == 200:
            job.ends = frozenset({"cancelled"})

    async def _rerun(self, entry: Request, job: Accepted) -> None:
        key = f"rerun-{entry.number}"
        status, body = await self._call("rerun", "POST", f"/v1/jobs/{job.job_id}/rerun", key=key, json={"reason": "chaos"})
        if status == 201:
            ends = frozenset({self.plan.load[entry.target].ends})
            self.accepted[entry.number] = Accepted(entry.number, "rerun", now(), ends, str(body["job_id"]))

    async def _erase(self, entry: Request, job: Accepted) -> None:
        status, _ = await self._call("erase", "DELETE", f"/v1/jobs/{job.job_id}", params={"reason": "chaos"})
        job.erased = job.erased or status == 204

    async def _pause(self, entry: Request, job: Accepted) -> None:
        assert job.job_id is not None
        self._paused.add(job.job_id)
        await self._call("pause", "POST", f"/v1/jobs/{job.job_id}/pause", json={})
        await passed(entry.lasts)
        await self._resume(job.job_id)

    async def _resume(self, job_id: str) -> None:
        await self._call("resume", "POST", f"/v1/jobs/{job_id}/resume", json={})
        self._paused.discard(job_id)

    async def _pause_action(self, entry: Request, job: Accepted) -> None:
        self._controls.add("noop")
        await self._call("pause_action", "PUT", "/v1/controls/action/noop", json={"paused": True})
        await passed(entry.lasts)
        await self._call("resume_action", "PUT", "/v1/controls/action/noop", json={"paused": False})

    async def _release(self) -> None:
        """Nothing that an operator paused stays so."""
        for job_id in list(self._paused):
            with contextlib.suppress(Unanswered):
                await self._resume(job_id)
        for action in self._controls:
            with contextlib.suppress(Unanswered):
                await self._call("resume_action", "PUT", f"/v1/controls/action/{action}", json={"paused": False})
