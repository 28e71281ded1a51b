"""The moves of a job, as values: what `decide` asks for, and what one move leads to. `advance` makes them."""

from __future__ import annotations

from typing import NamedTuple

from services.job_orchestrator.core.job import Branch


class Enter(NamedTuple):
    """A branch enters a step, given by its index in `all_steps`."""

    branch_id: str
    step: int


class StepEnd(NamedTuple):
    """A branch's step has ended with a status and code. The rules of its `next` say where the branch goes, and `otherwise` if none fits."""

    branch: Branch
    status: str
    """OK, SKIP, KO or ERR."""
    code: str | None
    otherwise: Leave | GiveUp


class Leave(NamedTuple):
    """A branch's step has ended well. The branch goes on to step `to`, of the same run of steps or right after it."""

    branch: Branch
    to: int


class Retry(NamedTuple):
    """A branch's attempt failed. It gets another one after a back-off, or ends as `GiveUp` has it."""

    branch: Branch
    code: str
    message: str


class GiveUp(NamedTuple):
    """A branch ends in failure. Its file drops out, or the job fails with it."""

    branch: Branch
    code: str
    message: str


class Release(NamedTuple):
    """The job goes on to a step: its own branch enters it, or every file that is still in."""

    step: int


Move = Enter | StepEnd | Leave | Retry | GiveUp | Release
Moves = list[Move]
"""The moves that follow, in order."""
