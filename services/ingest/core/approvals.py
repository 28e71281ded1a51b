"""Which jobs may wait for an approval, and what the orchestrator says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Record = dict[str, Any]


def approval_steps(workflows: Iterable[Record]) -> dict[str, frozenset[str] | None]:
    """`name@version` → the steps of the whole job that are approvals; None where files wait for approvals each by itself.

    Takes published workflows; those without an approval are left out.
    """
    found: dict[str, frozenset[str] | None] = {}
    for published in workflows:
        definition = published["definition"]
        steps = [s for s in (*(definition.get("steps") or ()), *(definition.get("rescue") or ())) if _approves(s)]
        if steps:
            whole = all(step.get("scope") == "job" for step in steps)
            found[f"{published['name']}@{published['version']}"] = frozenset(str(s["name"]) for s in steps) if whole else None
    return found


def may_wait(job: Record, steps: Mapping[str, frozenset[str] | None]) -> bool:
    """False for a job that is not at an approval, by its record in the read model."""
    names = steps.get(str(job["workflow"]), frozenset())
    return names is None or job.get("step") in names


def waiting_in(job: Record, explanation: Record) -> list[Record]:
    """The approvals that a job waits for, by the explanation why it waits."""
    named = {"job_id": job["id"], "workflow": job["workflow"], "job_key": job.get("job_key"), "as_of": explanation["as_of"]}
    return [{**named, **one} for one in explanation["facts"].get("approvals", ())]


def _approves(step: Any) -> bool:
    wait = step.get("wait") if isinstance(step, dict) else None
    return isinstance(wait, dict) and wait.get("kind") == "approval"
