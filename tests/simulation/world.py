"""One simulated pipeline. The seed decides who moves next, who dies, what is sent twice, and what the clock does."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from contracts import CloseSession, CreateJob, FileRef, JobRequest, JobStage, Message
from contracts.job_events import JOB_EVENTS
from services.ingest.core import job_end, job_view, numbering
from services.ingest.handlers import dedup_policy
from services.job_orchestrator.core.workflow import Workflow
from services.job_orchestrator.handlers import Orchestrator
from services.job_orchestrator.ports import Stores
from services.session.core.session import job_of
from services.session.handlers import Sessions
from shared.processing.records import Inbound
from shared.processing.unit_of_work import Unit
from stageline_kit.producer import topic_of
from tests.simulation import flows
from tests.simulation.broker import Broker, Entry
from tests.simulation.node import Node
from tests.simulation.observer import Observer, must
from tests.simulation.stores import (
    Database,
    ModelDispatchStore,
    ModelJobStore,
    ModelSealStore,
    ModelSessionStore,
    ModelSteeringStore,
)
from tests.simulation.switches import Switches
from tests.simulation.workers import OWNERS, SimWorker, healed, script


def read_model(records: dict[str, Any], early: dict[str, int], event: Any, history: dict[str, list[int]]) -> None:
    """Apply a job's or file's event as the gateway's projector does. `history`: the numbers of job events, in order."""
    job_id = event.event.job_id
    if isinstance(event, JOB_EVENTS):
        record = records.get(job_id)
        if record is not None and numbering.read_before(record, event.event.sequence):
            return
        history[job_id] = [*history.get(job_id, ()), event.event.sequence]
        if record is None:
            record = {**job_view.new_job(job_id, event.tenant, event.time), "file_ends_read": early.pop(job_id, 0)}
        records[job_id] = job_end.apply_event(record, event)
    elif job_end.ends_file(event) and job_id in records:
        records[job_id] = job_end.file_ended(records[job_id])
    elif job_end.ends_file(event):
        early[job_id] = early.get(job_id, 0) + 1


START = 1_790_000_000.0


class World:
    """Call `run()`, then the checks of `invariants.py`. The same seed makes the same history."""

    def __init__(self, seed: int, switches: Switches | None = None, stores: Callable[[Any], Stores] | None = None) -> None:
        self.rng = random.Random(seed)
        self.switches = switches or Switches()
        self.now = START
        self.broker = Broker(self.rng.randint(1, 3), self.rng)
        self.flows: dict[str, Workflow] = flows.some(self.rng)
        self.healing = False
        self.commands = 0
        self.steps = 0
        self.sent: list[Message] = []
        self.later: list[tuple[float, Message]] = []
        self.dead_letters: list[tuple[str, Entry, str]] = []
        self.limits: dict[Any, Any] = {}
        self.limit_base: dict[Any, int] = {}
        self.observer = Observer(self)
        self.task_topics = ("stage.tasks.a", "stage.tasks.b")
        self.jobs, self.sessions, self.view, self.consumer = Database(), Database(), Database(), Database()
        catalog = {(w.name, w.version): w for w in self.flows.values()}
        self.orchestrator = Orchestrator(
            Stores(lambda tx: ModelJobStore(tx, catalog), ModelDispatchStore, ModelSteeringStore, ModelSealStore)
        )
        self.session = Sessions(ModelSessionStore)
        self.nodes = self._nodes()
        self.workers = [SimWorker(self, f"w{n}") for n in range(self.rng.randint(1, 3))]
        for one in (*self.nodes, *self.workers):
            one.start()

    def _nodes(self) -> list[Node]:
        def some(group: str, topics: tuple[str, ...], database: Database, handler: Any, *inbox: Any) -> list[Node]:
            return [Node(self, f"{group}-{n}", group, topics, database, handler, *inbox) for n in range(self.rng.randint(1, 3))]

        orchestrated = ("session.events", "job.commands", "stage.reports", "operator.commands")
        return [
            *some("job_orchestrator", orchestrated, self.jobs, self.orchestrator.on_batch),
            *some("session", ("session.commands",), self.sessions, self.session.on_batch),
            *some("ingest", ("job.events", "file.events"), self.view, self._fold, dedup_policy),
            *some("consumers", ("job.events",), self.consumer, self._count),
        ]

    def _fold(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        records, early, history = map(unit.connection.table, ("job_view", "early_end", "history"))  # type: ignore[attr-defined]
        for item in batch:
            read_model(records, early, item.message, history)
        for job_id, record in records.items():
            ended, read, said = JobStage(record["stage"]).terminal, record["file_ends_read"], record["file_ends"]
            must(not ended or read == said, "S18", f"{job_id} is shown ended with {read} of {said} ends of its files")

    def _count(self, unit: Unit, batch: Sequence[Inbound]) -> None:
        effects = unit.connection.table("effect")  # type: ignore[attr-defined]
        for item in batch:
            effects[item.message.message_id] = effects.get(item.message.message_id, 0) + 1

    def job_of(self, made: Sequence[Message]) -> str:
        """Id of the job that these commands make."""
        for message in made:
            if isinstance(message, CreateJob):
                return message.job_id
            if isinstance(message, CloseSession):
                return job_of(message.session_id)
        raise AssertionError("nothing makes a job")

    def send(self, topic: str, message: Message) -> None:
        """Write a record from outside the services."""
        self.broker.append(topic, Entry(message.key, message.to_json(), message))

    def run(self) -> None:
        """Run with faults, then without, until the pipeline is idle."""
        requests = deque(script(self, self.rng))
        while requests or self.rng.random() < 0.995:
            if self.steps > 1500:
                break
            self._turn(requests)
        self._heal(requests)

    def _turn(self, requests: deque[Message]) -> None:
        self.steps += 1
        draw = self.rng.random()
        if requests and draw < 0.12:
            self._send_some_twice(requests)
        elif draw < 0.15:
            self._fault()
        elif draw < 0.17:
            self._tick(self.now + self.rng.choice([0.1, 1, 7, 40, 400]))
        elif draw < 0.18 and self.rng.random() < 0.3:
            self.broker.append(self.rng.choice(["job.commands", "stage.reports", "session.commands"]), Entry("k", b"{", None))
        elif not self._move() and not requests:
            self._wait()

    def _send_some_twice(self, requests: deque[Message]) -> None:
        message = requests.popleft()
        self.sent.append(message)
        for _ in range(2 if self.rng.random() < 0.2 else 1):
            self.send(topic_of(message), message)

    def _fault(self) -> None:
        one = self.rng.choice([*self.nodes, *self.workers])
        what = self.rng.random()
        if not one.alive:
            one.start()
        elif what < 0.5:
            one.kill()
        elif isinstance(one, Node):
            self.broker.rebalance(one.group)
        else:
            self.broker.rebalance("workers")

    def _move(self) -> bool:
        self._arrive()
        todo = [x for x in (*self.nodes, *self.workers) if x.alive]
        self.rng.shuffle(todo)
        return self._timers(todo) or any(x.step() for x in todo)

    def _arrive(self) -> None:
        for at, message in [x for x in self.later if x[0] <= self.now]:
            self.later.remove((at, message))
            self.send("stage.reports", message)

    def _timers(self, todo: list[Any]) -> bool:
        idle = [x for x in todo if isinstance(x, Node) and x.work is None]
        for node in idle:
            if node.group == "job_orchestrator" and self._due(self.jobs) <= self.now:
                node.timer(self.orchestrator.fire)
            elif node.group == "job_orchestrator" and self.jobs.tables.get("ready") and self.rng.random() < 0.2:
                node.timer(self.orchestrator.grant)
            elif node.group == "session" and self._expiry() <= self.now:
                node.timer(self.session.fire)
            else:
                continue
            return bool(node.step())
        return False

    def _due(self, database: Database) -> float:
        return min((x.due_at for x in database.tables.get("lane", {}).values() if x.due_at is not None), default=float("inf"))

    def _expiry(self) -> float:
        sessions = self.sessions.tables.get("session", {}).values()
        return min((s.expires_at.timestamp() for s in sessions if s.state.value == "open"), default=float("inf"))

    def _wait(self) -> None:
        """Move the clock to the next timer."""
        soon = min(self._due(self.jobs), self._expiry(), *(at for at, _ in self.later), self.now + 3600)
        self._tick(max(self.now + 0.01, soon))

    def _tick(self, to: float) -> None:
        # Whole microseconds, which a datetime can hold.
        self.now = math.ceil(to * 1e6) / 1e6

    def _heal(self, requests: deque[Message]) -> None:
        """End all faults: every process runs, every worker is diligent, and no job is held."""
        self.healing = True
        self.healed_at = self.now
        for one in (*self.nodes, *self.workers):
            if not one.alive:
                one.start()
        for _ in range(60):
            requests.extend(healed(self))
            while requests:
                self._send_some_twice(requests)
            self._until_quiet()
            if all(job.ended for job, _ in self.jobs.tables.get("job", {}).values()) and not self._lag():
                break
            self._wait()
        self.rested_at = self.now
        self._new_work()

    def _new_work(self) -> None:
        """L1: new work is done at once."""
        files = (FileRef(file_id="new", file_name="new.pdf", blob_name=f"{OWNERS[0].tenant_id}/b"),)
        at = datetime.fromtimestamp(self.now, UTC)
        request = CreateJob(
            command_id="new", job_id="new", owner=OWNERS[0], issued_at=at, job=JobRequest(workflow="plain"), files=files
        )
        self._send_some_twice(deque([request]))
        self._until_quiet()
        job = self.jobs.tables["job"]["new"][0]
        must(
            job.ended and self.now - self.rested_at <= 15,
            "L1",
            f"new work is {job.stage.value} after {self.now - self.rested_at:.0f} s",
        )

    def _until_quiet(self) -> None:
        for _ in range(20_000):
            self.steps += 1
            if not self._move():
                return
        raise AssertionError("the pipeline does not come to rest")

    def _lag(self) -> int:
        return sum(self.broker.lag(g) for g in ("job_orchestrator", "session", "ingest", "consumers"))
