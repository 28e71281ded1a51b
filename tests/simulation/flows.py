"""Workflows of the simulated pipeline: every kind of step, join, rule and wait."""

from __future__ import annotations

import random
from typing import Any

from services.job_orchestrator.core.workflow import Workflow

RETRY = {"max_attempts": 3, "initial_s": 5, "cap_s": 20}
FILE: dict[str, Any] = {"name": "f1", "action": "a", "retry": RETRY}
FILE_2: dict[str, Any] = {"name": "f2", "action": "b", "stage": "downloaded", "retry": {"max_attempts": 2, "initial_s": 1}}
JOB: dict[str, Any] = {"name": "j1", "action": "b", "scope": "job", "stage": "syncing"}
BODIES: dict[str, dict[str, Any]] = {
    "plain": {"steps": [FILE, FILE_2]},
    "joined": {"steps": [FILE, JOB, {**FILE_2, "stage": "uploading"}]},
    "strict": {"join": "all", "steps": [FILE, FILE_2, JOB]},
    "quorum": {"join": "quorum", "quorum": 2, "steps": [FILE, JOB]},
    "rescued": {
        "join": "all",
        "steps": [FILE, JOB],
        "rescue": [{"name": "undo", "action": "a", "scope": "job", "retry": {"max_attempts": 1}}],
    },
    "waits": {
        "steps": [
            FILE,
            {"name": "wait", "wait": {"kind": "time", "for_s": 60}},
            {"name": "ask", "wait": {"kind": "poke"}, "scope": "job"},
            JOB,
        ]
    },
    "rules": {
        "steps": [
            {**FILE, "next": [{"status": "KO", "to": "f3"}, {"status": "ERR", "to": "end"}]},
            FILE_2,
            {**FILE, "name": "f3"},
        ]
    },
    "asked": {
        "steps": [{"name": "ask", "wait": {"kind": "approval", "timeout_s": 30}, "scope": "job", "stage": "in_revision"}, JOB]
    },
    "timed": {"steps": [{**FILE, "timeouts": {"total_s": 25, "queued_s": 10}}, {**FILE_2, "retry": {**RETRY, "budget_s": 8}}]},
    "choosy": {"steps": [{**FILE, "when": "job.files > 1"}, {**FILE_2, "retry": {**RETRY, "retriable": ["other"]}}]},
    "parent": {"steps": [FILE, {"name": "inner", "job": {"workflow": "plain"}}]},
}


def some(rng: random.Random) -> dict[str, Workflow]:
    """Some of the workflows; always `plain`, for child jobs."""
    names = {"plain", *rng.sample(sorted(BODIES), 4)}
    return {name: Workflow.model_validate({"name": name, "version": 1, **BODIES[name]}) for name in sorted(names)}
