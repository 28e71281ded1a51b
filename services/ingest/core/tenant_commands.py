"""What a tenant's own topic may command: which types, in whose name, under which ids, with which files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts import (
    AddFile,
    CancelJob,
    CloseSession,
    CreateJob,
    EraseSession,
    ExplainJob,
    FileRef,
    OpenSession,
    PokeJob,
    Tenancy,
)
from contracts.loose import check_json
from contracts.message import Message

MAX_ID = 200
VERBS: dict[type[Message], str] = {
    CreateJob: "create", CancelJob: "cancel", PokeJob: "poke", ExplainJob: "explain", OpenSession: "open_session",
    AddFile: "add_file", CloseSession: "close_session", EraseSession: "erase_session",
}  # fmt: skip
"""The commands of a tenant, with the word that a refusal carries."""


class Refused(Exception):
    """The command has no effect. `code` is a stable word, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def own_id(tenant: str, given: str) -> str:
    """An id that a tenant chose, as all others know it: with the tenant before it. No two tenants can mean the same.

    Raises `Refused` when that is too long.
    """
    made = given if given.startswith(f"{tenant}:") else f"{tenant}:{given}"
    if len(made) > MAX_ID:
        raise Refused("invalid_id", f"an id has more than {MAX_ID - len(tenant) - 1} characters")
    return made


def admitted(command: Message, owner: Tenancy, is_own_job: Callable[[str], bool]) -> Message:
    """The command as it is passed on: in the name of `owner`, under ids of this tenant alone.

    `is_own_job` says whether an id is that of a job of the tenant, however it was made. Raises `Refused`.
    """
    tenant = owner.tenant_id
    changes: dict[str, Any] = {"command_id": own_id(tenant, command.message_id), "owner": owner}
    if isinstance(command, CreateJob):
        changes |= _creation(command, tenant)
    elif isinstance(command, (CancelJob, PokeJob, ExplainJob)):
        changes["job_id"] = command.job_id if is_own_job(command.job_id) else own_id(tenant, command.job_id)
        if isinstance(command, PokeJob) and command.approval:
            raise Refused("not_allowed", "approval: an approval is for operators, by HTTP or on operator.commands")
    elif isinstance(command, (OpenSession, AddFile, CloseSession, EraseSession)):
        changes["session_id"] = own_id(tenant, command.session_id)
        if isinstance(command, AddFile):
            changes["file"] = own_file(tenant, command.file)
        if isinstance(command, CloseSession):
            _check_args(command.job.args)
    else:
        raise Refused("not_allowed", f"{type(command).__name__} is not a command of tenants")
    return command.model_copy(update=changes)


def _creation(command: CreateJob, tenant: str) -> dict[str, Any]:
    if command.parent is not None:
        raise Refused("not_allowed", "parent: only the orchestrator makes jobs that end a step of another job")
    _check_args(command.job.args)
    files = tuple(own_file(tenant, file) for file in command.files)
    return {"job_id": own_id(tenant, command.job_id), "files": files}


def own_file(tenant: str, file: FileRef) -> FileRef:
    """The file under the tenant's id. Raises `Refused` for bytes that are not the tenant's: its objects begin with its id."""
    name = file.blob_name
    if name is None and file.url is None:
        raise Refused("invalid_file", f"file {file.file_id}: an address (url) or an object (blob_name) is expected")
    if name is not None and (not name.startswith(f"{tenant}/") or ".." in name.split("/")):
        raise Refused("foreign_object", f"file {file.file_id}: the object is not one of this tenant")
    return file.model_copy(update={"file_id": own_id(tenant, file.file_id)})


def _check_args(args: Any) -> None:
    try:
        check_json(args)
    except ValueError as error:
        raise Refused("invalid_args", f"args: {error}") from None
