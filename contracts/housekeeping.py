"""Messages by which what is no longer needed leaves: workflows, and objects that no job refers to."""

from __future__ import annotations

from pydantic import Field

from contracts.dispatch import _Command
from contracts.job_control import _Answer

MAX_QUESTION = 2000


class DeleteWorkflow(_Command):
    """Delete all versions of a workflow. Its jobs go on; no job begins with it. Refused while a schedule or another workflow names it."""

    TYPE = "stageline.workflow.delete_command.v1"
    name: str = Field(min_length=1, max_length=100)

    @property
    def key(self) -> str:
        return f"workflow:{self.name}"


class FindReferences(_Command):
    """Ask which of these objects jobs, schedules or workflows refer to. `ReferencesFound` answers it."""

    TYPE = "stageline.objects.find_references_command.v1"
    blobs: tuple[str, ...] = Field(max_length=MAX_QUESTION)

    @property
    def key(self) -> str:
        return f"objects:{self.command_id}"


class ReferencesFound(_Answer):
    """Those of the objects that something refers to. Nothing refers to the others, as of `occurred_at`."""

    TYPE = "stageline.objects.references_found.v1"
    blobs: tuple[str, ...] = Field(default=(), max_length=MAX_QUESTION)

    @property
    def key(self) -> str:
        return f"objects:{self.command_id}"


HOUSEKEEPING_COMMANDS = (DeleteWorkflow, FindReferences)
