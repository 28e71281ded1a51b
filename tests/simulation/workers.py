"""Workers and clients of the simulated pipeline. The seed makes them diligent, slow, wrong, lying or dead."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts import (
    AddFile,
    CancelJob,
    CloseSession,
    CreateJob,
    FileRef,
    JobRequest,
    Message,
    OpenSession,
    PauseJob,
    PokeJob,
    Progress,
    RerunJob,
    ResumeJob,
    RetryJobNow,
    SetControl,
    StageReport,
    StageTask,
    TaskCancelled,
    TaskStatus,
    Tenancy,
    TerminateJob,
    derived,
)
from tests.simulation.broker import Entry, Place

OWNERS = tuple(Tenancy(tenant_id=t, tenant_name=t, user_name="ann") for t in ("t1", "t2"))
ENDS = [TaskStatus.OK] * 6 + [TaskStatus.ERR, TaskStatus.ERR, TaskStatus.KO, TaskStatus.SKIP, TaskStatus.QUEUED]


@dataclass
class SimWorker:
    """Reads each task at least once. It may be silent or late, report twice, or report on attempts of other workers."""

    world: Any
    name: str
    positions: dict[Place, int] = field(default_factory=dict)
    work: Iterator[str] | None = None
    alive: bool = True
    cancelled: set[str] = field(default_factory=set)
    heard: int = 0

    def start(self) -> None:
        """Start, also after a death."""
        self.alive, self.positions, self.work = True, {}, None
        self.world.broker.join("workers", self.name, self.world.task_topics)

    def kill(self) -> None:
        """Die. Its work is lost."""
        self.alive, self.work = False, None
        self.world.broker.leave("workers", self.name)

    def step(self) -> bool:
        """Do one step; False when there was nothing to do."""
        if self.work is None:
            generation = self.world.broker.groups["workers"].generation
            batch = self.world.broker.poll("workers", self.name, self.positions, 1)
            if not batch:
                return False
            self.work = self._task(batch[0], generation)
        try:
            next(self.work)
        except StopIteration:
            self.work = None
        return True

    def _task(self, item: tuple[Place, int, Entry], generation: int) -> Iterator[str]:
        place, offset, entry = item
        task = entry.message
        assert isinstance(task, StageTask)
        rng: random.Random = self.world.rng
        calm = self.world.healing
        yield "has it"
        if not calm and rng.random() < 0.3:
            self._say(task, TaskStatus.RUN, progress=Progress(done=1, total=3))
            yield "beat"
        if not calm and rng.random() < 0.06:
            # Falls silent: the offset is committed, and no report follows.
            self.world.broker.commit("workers", self.name, generation, {place: offset + 1})
            return
        if not self._is_cancelled(task):
            status = TaskStatus.OK if calm else rng.choice(ENDS)
            self._end(task, status, rng, calm)
            yield "reported"
        self.world.broker.commit("workers", self.name, generation, {place: offset + 1})

    def _end(self, task: StageTask, status: TaskStatus, rng: random.Random, calm: bool) -> None:
        result: dict[str, Any] = {"n": task.attempt}
        if not calm and rng.random() < 0.05:
            result = {"tag": {"name": "x", "confidence": "no number"}}
        self._say(task, status, result=result if status is TaskStatus.OK else {}, retry_in=1.0)
        if not calm and rng.random() < 0.1:
            self._say(task, status, again=True, result=result if status is TaskStatus.OK else {})
        if not calm and rng.random() < 0.05:
            forged = task.model_copy(update=rng.choice([{"lease": "forged"}, {"tenant_id": "other"}, {"job_id": "nowhere"}]))
            self._say(forged, rng.choice([TaskStatus.OK, TaskStatus.RUN]), again=True)
        if not calm and rng.random() < 0.1:
            self.world.later.append(
                (self.world.now + rng.choice([1, 30, 2000]), self._made(task, TaskStatus.OK, "late", result={}))
            )

    def _is_cancelled(self, task: StageTask) -> bool:
        notes = self.world.broker.records("stage.cancellations")
        self.cancelled |= {e.message.lease for e in notes[self.heard :] if isinstance(e.message, TaskCancelled)}
        return task.lease in self.cancelled

    def _made(self, task: StageTask, status: TaskStatus, role: str, **more: Any) -> StageReport:
        at = datetime.fromtimestamp(self.world.now, UTC)
        return StageReport(
            report_id=derived(task.lease, task.job_id, task.tenant_id, self.name, status.value, role), job_id=task.job_id, tenant_id=task.tenant_id,
            file_id=task.file_id, step=task.step, action=task.action, attempt=task.attempt, lease=task.lease, reported_at=at,
            status=status, code="c" if status in (TaskStatus.ERR, TaskStatus.KO) else None, worker=self.name, **more,
        )  # fmt: skip

    def _say(self, task: StageTask, status: TaskStatus, again: bool = False, **more: Any) -> None:
        role = "again" if again else str(self.world.rng.random()) if status is TaskStatus.RUN else "end"
        report = self._made(task, status, role, **more)
        self.world.send("stage.reports", report)


def script(world: Any, rng: random.Random) -> Iterator[Message]:
    """The clients' commands, in order. The world sends some of them twice."""
    jobs: list[tuple[str, Tenancy]] = []
    for number in range(rng.randint(2, 5)):
        owner = rng.choice(OWNERS)
        made = list(_creation(world, rng, owner, number))
        jobs.append((world.job_of(made), owner))
        yield from made
        for _ in range(rng.randint(0, 3)):
            yield _verb(world, rng, *rng.choice(jobs))
        if rng.random() < 0.4:
            yield _control(world, rng)


def _creation(world: Any, rng: random.Random, owner: Tenancy, number: int) -> Iterator[Message]:
    flow = rng.choice(sorted(world.flows))
    later = datetime.fromtimestamp(world.now + 50, UTC) if rng.random() < 0.1 else None
    request = JobRequest(workflow=flow, priority=rng.choice(["low", "normal", "high"]), start_at=later)
    files = [
        FileRef(file_id=f"f{number}-{i}", file_name=f"{i}.pdf", blob_name=f"{owner.tenant_id}/b{i}")
        for i in range(rng.randint(1, 4))
    ]
    common = {"owner": owner, "issued_at": datetime.fromtimestamp(world.now, UTC)}
    if rng.random() < 0.5:
        yield CreateJob(command_id=f"create-{number}", job_id=f"job-{number}", job=request, files=tuple(files), **common)
        return
    session = f"session-{number}"
    yield OpenSession(command_id=f"open-{number}", session_id=session, ttl_s=rng.choice([40, 100_000]), **common)
    for i, file in enumerate(files):
        yield AddFile(command_id=f"add-{number}-{i}", session_id=session, file=file, **common)
    yield CloseSession(command_id=f"close-{number}", session_id=session, job=request, **common)
    if rng.random() < 0.5:
        late = FileRef(file_id=f"late-{number}", file_name="late.pdf", blob_name=f"{owner.tenant_id}/b")
        yield AddFile(command_id=f"late-{number}", session_id=session, file=late, **common)
    if rng.random() < 0.5:
        yield CloseSession(command_id=f"same-{number}", session_id=session, job=request, **common)
    if rng.random() < 0.5:
        other = request.model_copy(update={"metadata": {"x": 1}})
        yield CloseSession(command_id=f"again-{number}", session_id=session, job=other, **common)


def _verb(world: Any, rng: random.Random, job_id: str, owner: Tenancy) -> Message:
    world.commands += 1
    common = {
        "command_id": f"verb-{world.commands}",
        "job_id": job_id,
        "owner": owner,
        "issued_at": datetime.fromtimestamp(world.now, UTC),
    }
    kind = rng.choice([CancelJob, PauseJob, PauseJob, ResumeJob, RetryJobNow, PokeJob, PokeJob, TerminateJob, RerunJob])
    if kind is RerunJob:
        return RerunJob(new_job_id=f"rerun-{world.commands}", only=rng.choice(["all", "failed", "changed"]), **common)
    if kind is PokeJob:
        return PokeJob(outcome=rng.choice(["OK", "KO"]), code="no", approval=rng.random() < 0.7, **common)
    found: Message = kind(**common)
    return found


def _control(world: Any, rng: random.Random) -> Message:
    world.commands += 1
    common = {"command_id": f"verb-{world.commands}", "owner": OWNERS[0], "issued_at": datetime.fromtimestamp(world.now, UTC)}
    kind, name = rng.choice([("action", "a"), ("action", "b"), ("tenant", "t1"), ("tenant", "t2")])
    what = rng.choice([{"limit": 1}, {"limit": 2}, {"paused": True}, {"paused": False}, {"rate_per_s": 2.0}, {"weight": 3.0}])
    return SetControl(kind=kind, name=name, **what, **common)


def healed(world: Any) -> Iterator[Message]:
    """Commands that remove every hold: pauses end, limits go, and wait steps are answered."""
    common = {"owner": OWNERS[0], "issued_at": datetime.fromtimestamp(world.now, UTC)}
    for kind, name in (("action", "a"), ("action", "b"), ("tenant", "t1"), ("tenant", "t2")):
        world.commands += 1
        yield SetControl(
            command_id=f"verb-{world.commands}", kind=kind, name=name, paused=False, clear=("limit", "rate_per_s"), **common
        )
    for job_id, (job, _) in sorted(world.jobs.tables.get("job", {}).items()):
        if not job.ended:
            for verb in (ResumeJob, PokeJob):
                world.commands += 1
                more = {"approval": True} if verb is PokeJob else {}
                yield verb(
                    command_id=f"verb-{world.commands}", job_id=job_id, owner=job.owner, issued_at=common["issued_at"], **more
                )
