"""The plan of a run: which faults and which requests come when. A pure function of the seed and the parameters."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SERVICES = ("ingest", "session", "job_orchestrator", "stage_worker", "notifier")
WARM_UP_S, CALM_END_S = 4.0, 3.0
"""The first fault comes after `WARM_UP_S`. Faults that last are over `CALM_END_S` before the end of the load."""
MEAN_GAP_S = 7.0
LASTS_S = (5.0, 20.0)

WEIGHTS: Mapping[str, float] = {
    "kill": 6, "stop": 4, "terminate": 3, "kill_broker": 1.5, "pause_broker": 1.5, "kill_database": 2, "store_read_only": 1,
    "store_away": 1, "disk_full": 1, "topic_deleted": 0.7, "receiver": 4, "hostile_records": 2, "worker_killed": 2, "worker_joins": 1,
}  # fmt: skip
"""Kind of fault → its share. `kill_database` needs PostgreSQL, and `disk_full` a file system of the run's own."""
LASTING = frozenset({"stop", "pause_broker", "store_read_only", "store_away", "disk_full", "receiver", "worker_joins"})
MOODS = ("slow", "500", "410", "429", "hang")
LATE_TOPIC = "stage.tasks.acme.late"

WAYS: Mapping[str, float] = {"v1": 34, "alfred": 18, "invopop": 10, "conversion": 5, "kafka_job": 18, "kafka_session": 8}
VERBS: Mapping[str, float] = {"cancel": 4, "rerun": 4, "pause": 3, "erase": 3, "pause_action": 1}
VERB_SHARE = 0.12
WORKFLOWS: Mapping[str, tuple[float, str]] = {
    "noop-five": (40, "completed"), "chaos-kit": (25, "completed"), "chaos-slow": (15, "completed"), "chaos-late": (5, "completed"),
    "chaos-fails": (5, "failed"), "chaos-gives-up": (5, "failed"),
}  # fmt: skip
"""Workflow without files → its share, and the stage in which its jobs end when nobody steers them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at `at` seconds after the start of the load, for `lasts` seconds (0: an instant)."""

    number: int
    at: float
    kind: str
    target: str
    lasts: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One entry of the load. `way` is a way in, or an operator's verb on the job of entry `target`."""

    number: int
    at: float
    way: str
    workflow: str = "documents"
    ends: str = "completed"
    job_id: str = ""
    files: tuple[str, ...] = ()
    """Texts of the documents."""
    target: int = -1
    lasts: float = 0.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a plan depends on, beside its seed."""

    minutes: float
    rate: float
    store: str = "sqlite"
    replicas: int = 1
    small_disk: bool = False
    kinds: tuple[str, ...] = ()
    """Kinds of faults to draw; all when empty."""

    @property
    def seconds(self) -> float:
        """Duration of the load."""
        return self.minutes * 60

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of the service processes, as `stageline up` calls them."""
        return tuple(s if n == 1 else f"{s}-{n}" for s in SERVICES for n in range(1, self.replicas + 1))

    def weights(self) -> dict[str, float]:
        """The kinds of faults that this run can apply, with their shares."""
        left_out = {k for k, can in (("kill_database", self.store == "postgres"), ("disk_full", self.small_disk)) if not can}
        return {k: w for k, w in WEIGHTS.items() if k not in left_out and (not self.kinds or k in self.kinds)}


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run does."""

    seed: int
    parameters: Parameters
    faults: tuple[Fault, ...]
    load: tuple[Request, ...]


def make_plan(seed: int, parameters: Parameters) -> Plan:
    """The plan of `seed`. Faults and load have generators of their own, so that another rate changes no fault."""
    faults = _faults(random.Random(f"{seed}/faults"), parameters)
    load = _load(random.Random(f"{seed}/load"), parameters, seed)
    return Plan(seed, parameters, faults, load)


def _choice(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _faults(rng: random.Random, p: Parameters) -> tuple[Fault, ...]:
    weights = p.weights()
    busy: dict[str, float] = {}
    found: list[Fault] = []
    at = WARM_UP_S
    while weights and at < p.seconds - CALM_END_S:
        kind = _choice(rng, weights)
        target = _target(rng, kind, p)
        lasts = round(rng.uniform(*LASTS_S), 2) if kind in LASTING else 0.0
        lasts = min(lasts, round(p.seconds - CALM_END_S - at, 2))
        # What a fault concerns is left alone until the fault is over, so that each has its whole effect.
        if busy.get(_concerns(kind, target), 0.0) <= at:
            found.append(Fault(len(found), round(at, 2), kind, target, lasts))
            busy[_concerns(kind, target)] = at + lasts + 1.0
        at += 0.5 + rng.expovariate(1 / MEAN_GAP_S)
    return tuple(found)


def _target(rng: random.Random, kind: str, p: Parameters) -> str:
    if kind in ("kill", "stop", "terminate"):
        return rng.choice(p.processes)
    fixed = {"topic_deleted": LATE_TOPIC, "kill_broker": "kafka", "pause_broker": "kafka", "kill_database": "postgres"}
    return rng.choice(MOODS) if kind == "receiver" else fixed.get(kind, kind)


def _concerns(kind: str, target: str) -> str:
    """What no two faults at a time concern."""
    if kind.startswith("store") or kind == "disk_full":
        return "store"
    return {"receiver": "receiver", "worker_killed": "kit", "worker_joins": "joiner"}.get(kind, target)


def _load(rng: random.Random, p: Parameters, seed: int) -> tuple[Request, ...]:
    found: list[Request] = []
    jobs: list[int] = []
    at = rng.expovariate(p.rate)
    while at < p.seconds:
        number, when = len(found), round(at, 3)
        verb = rng.random() < VERB_SHARE and bool(jobs)
        if verb:
            # Mostly the newest: an older job has often ended.
            target = jobs[-1 - min(int(rng.expovariate(1 / 8)), len(jobs) - 1)]
            lasts = round(rng.uniform(1, 6), 2)
            found.append(Request(number, when, _choice(rng, VERBS), target=target, lasts=lasts))
        else:
            found.append(_submission(rng, number, when, seed))
            jobs.append(number)
        at += rng.expovariate(p.rate)
    return tuple(found)


def _submission(rng: random.Random, number: int, at: float, seed: int) -> Request:
    way = _choice(rng, WAYS)
    job_id = str(uuid.UUID(int=rng.getrandbits(128), version=1))
    more: dict[str, Any] = {"job_id": f"chaos-{seed}-{number}" if way.startswith("kafka") else job_id}
    if way in ("alfred", "kafka_session", "conversion"):
        more["files"] = tuple(_text(rng, number, n) for n in range(1 if way == "conversion" else rng.choice((1, 1, 2, 3))))
        return Request(number, at, way, **more)
    workflow = _choice(rng, {name: weight for name, (weight, _) in WORKFLOWS.items()})
    return Request(number, at, way, workflow, WORKFLOWS[workflow][1], **more)


def _text(rng: random.Random, number: int, n: int) -> str:
    lines = [f"Invoice No: {number}-{n}", "Date: 2026-01-02", f"Total due: EUR {rng.randrange(1, 9999)}.50"]
    return "\n".join([*lines, f"mark {rng.getrandbits(64):016x}"] * rng.choice((1, 1, 1, 40))) + "\n"
