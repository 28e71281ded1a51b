"""A run: start, warm up, measure, load and faults, quiet, judge, erase, judge again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from stageline_kit import Producer
from tests.chaos.harness import observers
from tests.chaos.harness.door import Door, Unanswered
from tests.chaos.harness.evidence import Accepted, Evidence, Usage, Violation, end_of
from tests.chaos.harness.faults import Faults
from tests.chaos.harness.judges import BLIND, EVENTUAL, judged
from tests.chaos.harness.load import Load
from tests.chaos.harness.plan import WORKFLOWS, Plan, Request
from tests.chaos.harness.receiver import ENDPOINTS, Receiver
from tests.chaos.harness.system import System, now, passed, running
from tests.chaos.harness.ways import Ways

WARM_UP = 12
"""Jobs before the first measurement, so that what is loaded once is loaded."""
ERASED_WITHIN_S = 40.0
AGAIN_S = 3.0
LONGEST = 3
"""The quiet period is this many times as long at most, while events still come."""
PRODUCER_ENDS_S = 10.0
CALM_S = 4.0
"""Between the last work and a measurement of what runs idle."""


@dataclass
class Outcome:
    """What a run found: figures as data, and violations."""

    figures: dict[str, Any]
    violations: list[Violation]


class Run:
    """The parts of one run, wired together."""

    def __init__(
        self, plan: Plan, system: System, door: Door, producer: Producer, receiver: Receiver, say: Callable[[str], None]
    ) -> None:
        self.plan = plan
        self.system = system
        self.door = door
        self.receiver = receiver
        self.say = say
        self.unanswered: set[str] = set()
        self.ways = Ways(door, producer, receiver, self.unanswered)
        self.load = Load(plan, self.ways, door)
        self.stream = observers.StreamObserver(door)
        self.producer = producer
        self.early: list[Accepted] = []
        self.faults: Faults

    async def execute(self, quiet_s: float) -> Outcome:
        """Carry out the plan, and judge it."""
        endpoints = {name: await self._endpoint(name) for name in ENDPOINTS}
        self.faults = Faults(self.plan, self.system, self.receiver, self.door, self.producer, [endpoints["moody"]])
        streaming = asyncio.create_task(self.stream.run())
        try:
            async with self.faults.kit_workers():
                return await self._carried_out(quiet_s)
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)

    async def _carried_out(self, quiet_s: float) -> Outcome:
        await self._warm_up(quiet_s)
        await passed(CALM_S)
        before = await observers.measure(self.system)
        self.say(f"load and {len(self.plan.faults)} faults for {self.plan.parameters.seconds:.0f} s")
        began = now()
        loading = asyncio.create_task(self.load.run())
        await self.faults.run()
        # Not the whole patience of a client: what has no answer soon after the last fault is a finding.
        self.door.closes = max(now(), began + self.plan.parameters.seconds) + quiet_s
        await loading
        loaded = now() - began
        self.door.closes = now() + LONGEST * quiet_s
        not_ready = await self.faults.heal()
        self.say("quiet: waiting for the last ends")
        try:
            evidence = await self._settled(quiet_s)
        except (KafkaError, OSError) as error:
            return self._blind([*not_ready, f"kafka: {error!r}"], loaded)
        self.door.closes = float("inf")
        evidence.not_ready = not_ready
        evidence.verified = await self._verified()
        jobs = [job_id for job_id, _ in evidence.job_events()]
        evidence.records, evidence.histories = await observers.read_models(self.door, jobs)
        await passed(CALM_S)
        after = await observers.measure(self.system)
        evidence.usage = [Usage(name, *_pairs(before[name], after[name])) for name in before if name in after]
        evidence.log_lines = observers.read_logs(self.system)
        evidence.unnamed = self.door.torn | await observers.refused_results(self.system)
        evidence.objects_left = await self._erased(evidence, jobs)
        evidence.answers = list(self.door.wrong)
        return Outcome(self._figures(evidence, loaded), judged(evidence))

    def _blind(self, not_ready: list[str], loaded: float) -> Outcome:
        """The outcome of a run after which Kafka cannot be read."""
        evidence = Evidence(
            faults=self.faults.applied, accepted=[*self.early, *self.load.accepted.values()], unanswered=self.unanswered,
            answers=list(self.door.wrong), log_lines=observers.read_logs(self.system), not_ready=not_ready,
        )  # fmt: skip
        return Outcome(self._figures(evidence, loaded), judged(evidence, BLIND))

    async def _endpoint(self, name: str) -> str:
        body = {"url": f"{self.receiver.base}/hook/{name}", "events": ["job.*"]}
        _, made = await self.door.call("POST", "/v1/webhooks", notifier=True, json=body)
        return str(made["id"])

    async def _warm_up(self, quiet_s: float) -> None:
        """A few jobs of each kind before the first measurement. They are judged like all others."""
        names = list(WORKFLOWS)
        requests = [
            Request(
                -1 - n, 0.0, way, names[n % len(names)], WORKFLOWS[names[n % len(names)]][1], f"warm-{n}-{way}", ("warm up\n",)
            )
            for n, way in enumerate(("kafka_job", "alfred", "kafka_session") * (WARM_UP // 3))
        ]
        requests = [replace(r, workflow="documents", ends="completed") if r.way != "kafka_job" else r for r in requests]
        self.early = [made for made in await asyncio.gather(*(self.ways.submit(r) for r in requests)) if made is not None]
        for violation in judged(await self._settled(min(quiet_s, 60.0)), EVENTUAL):
            self.say(f"before any fault: {violation}")

    async def _settled(self, quiet_s: float) -> Evidence:
        """The evidence when what holds soon after the load holds, or when nothing has changed for the quiet period."""
        began, changed, seen = now(), now(), (0, 0, 0)
        async with observers.reading(self.system) as topics:
            while True:
                evidence = await self._collect(topics)
                found = (len(evidence.facts), len(evidence.shown or ()), len(evidence.attempts or ()))
                if found != seen:
                    changed, seen = now(), found
                # Beside the event loop, in which the receiver answers: it must not look slow because a long run is judged.
                missing = await asyncio.to_thread(judged, evidence, EVENTUAL)
                if not missing or now() > changed + quiet_s or now() > began + LONGEST * quiet_s:
                    return evidence
                await passed(AGAIN_S)

    async def _collect(self, topics: observers.Topics) -> Evidence:
        read_at = now()
        facts = list(await topics.read())
        return Evidence(
            faults=sorted(self.faults.applied, key=lambda f: f.began), accepted=[*self.early, *self.load.accepted.values()],
            unanswered=set(self.unanswered), facts=facts, read_at=read_at, shown=list(self.stream.shown),
            attempts=list(self.receiver.attempts), endpoints=ENDPOINTS,
        )  # fmt: skip

    async def _verified(self) -> list[str]:
        try:
            done = await asyncio.to_thread(self.system.pipeline.command, "verify", "--json", timeout=300)
        except subprocess.TimeoutExpired:
            return ["no result within 300 s"]
        try:
            return [f"{d['job_id']}: {d['what']}" for d in json.loads(done.stdout)["differences"]]
        except (ValueError, KeyError):
            return [f"no result: {done.stdout[-300:]} {done.stderr[-300:]}"]

    async def _erased(self, evidence: Evidence, jobs: list[str]) -> list[str]:
        """Objects that are left when every job is erased."""
        self.say(f"erasing {len(jobs)} jobs")
        gate = asyncio.Semaphore(8)

        async def erase(job_id: str) -> None:
            async with gate:
                with contextlib.suppress(Unanswered):
                    await self.door.call("DELETE", f"/v1/jobs/{job_id}", expected=(404, 409))

        await asyncio.gather(*(erase(job_id) for job_id in jobs))
        until = now() + ERASED_WITHIN_S
        while (left := observers.objects_in(self.system.objects)) and now() < until:
            await passed(1.0)
        return left

    def _figures(self, e: Evidence, loaded: float) -> dict[str, Any]:
        ends = Counter(end for _, events in e.job_events() for f in events if (end := end_of(f)))
        return {
            "load_s": round(loaded), "requests": len(self.plan.load), "accepted": len(e.accepted), "unanswered": len(e.unanswered),
            "jobs": sum(1 for _ in e.job_events()), "ends": dict(ends), "events": sum(f.topic == "job.events" for f in e.facts),
            "file_events": sum(f.topic == "file.events" for f in e.facts), "stream_events": len(e.shown or ()),
            "stream_connections": self.stream.connections, "webhook_attempts": len(e.attempts or ()),
            "objects_left": len(e.objects_left or ()), "faults": dict(Counter(f.kind for f in e.faults)), "http": {str(k): v for k, v in sorted(self.door.statuses.items())},
            "verbs": {f"{verb} {status}": n for (verb, status), n in sorted(Counter(self.load.verbs).items())},
            "memory_mib": {u.process: [round(u.mib_before), round(u.mib_after)] for u in e.usage},
            "idle_cpu_percent": {u.process: [round(u.cpu_before, 1), round(u.cpu_after, 1)] for u in e.usage},
        }  # fmt: skip


def _pairs(before: tuple[float, float], after: tuple[float, float]) -> tuple[float, float, float, float]:
    return before[0], after[0], before[1], after[1]


async def run(plan: Plan, folder: Path, quiet_s: float, say: Callable[[str], None]) -> Outcome:
    """Start a deployment in `folder`, carry out the plan, judge, stop. SIGTERM stops it early, with all that it started."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with running(folder, plan.parameters) as system, Receiver() as receiver, Door(system) as door:
        options = dict(system.kafka_options)
        producer = Producer(options.pop("bootstrap_servers"), "/chaos", **options)
        await producer.__aenter__()
        try:
            return await Run(plan, system, door, producer, receiver, say).execute(quiet_s)
        finally:
            # Without a broker the client waits for what it still holds.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(producer.__aexit__(), PRODUCER_ENDS_S)
