"""What a tenant may command on its own topic, and under which ids it is passed on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import AddFile, CancelJob, CreateJob, FileRef, JobRequest, OpenSession, PauseJob, PokeJob, Tenancy
from contracts.work import ParentTask
from services.ingest.core.tenant_commands import Refused, admitted, own_id
from tests.contracts.examples import AT

ACME = Tenancy(tenant_id="acme", tenant_name="Acme", user_name="kafka")
FORGED = Tenancy(tenant_id="other", tenant_name="Other", user_name="root")
TENANT = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
TEXT = st.text(min_size=1, max_size=60)


def nothing(job_id: str) -> bool:
    return False


def creation(**more: Any) -> CreateJob:
    return CreateJob(command_id="c", job_id="j", owner=FORGED, issued_at=AT, job=JobRequest(), **more)


def test_the_tenant_is_the_topics_and_ids_are_its_own() -> None:
    file = FileRef(file_id="f", file_name="a.pdf", blob_name="acme/aa/1")
    made: Any = admitted(creation(files=(file,)), ACME, nothing)
    assert (made.owner, made.command_id, made.job_id, made.files[0].file_id) == (ACME, "acme:c", "acme:j", "acme:f")
    opened: Any = admitted(OpenSession(command_id="c", session_id="s", owner=FORGED, issued_at=AT), ACME, nothing)
    assert (opened.owner, opened.session_id) == (ACME, "acme:s")
    added: Any = admitted(AddFile(command_id="c", session_id="acme:s", owner=FORGED, issued_at=AT, file=file), ACME, nothing)
    assert (added.session_id, added.file.file_id) == ("acme:s", "acme:f")


def test_a_job_that_came_by_http_keeps_its_id() -> None:
    cancel = CancelJob(command_id="c", job_id="0198-uuid", owner=FORGED, issued_at=AT)
    assert admitted(cancel, ACME, lambda job: job == "0198-uuid").key == "0198-uuid"
    assert admitted(cancel, ACME, nothing).key == "acme:0198-uuid"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (PauseJob(command_id="c", job_id="j", owner=FORGED, issued_at=AT), "not_allowed"),
        (PokeJob(command_id="c", job_id="j", owner=FORGED, issued_at=AT, approval=True), "not_allowed"),
        (creation(parent=ParentTask(job_id="x", step="s", action="a", attempt=1, lease="l")), "not_allowed"),
        (creation(files=(FileRef(file_id="f", file_name="a", blob_name="other/aa/1"),)), "foreign_object"),
        (creation(files=(FileRef(file_id="f", file_name="a", blob_name="acme/../other/1"),)), "foreign_object"),
        (creation(files=(FileRef(file_id="f", file_name="a", blob_name="acme2/aa/1"),)), "foreign_object"),
        (creation(files=(FileRef(file_id="f", file_name="a"),)), "invalid_file"),
        (OpenSession(command_id="c", session_id="s" * 198, owner=FORGED, issued_at=AT), "invalid_id"),
    ],
)
def test_everything_else_is_refused(command: Any, code: str) -> None:
    with pytest.raises(Refused) as refused:
        admitted(command, ACME, nothing)
    assert refused.value.code == code


@given(TENANT, TENANT, TEXT, TEXT)
def test_two_tenants_never_mean_the_same_id(one: str, two: str, given: str, other: str) -> None:
    if one != two:
        assert own_id(one, given) != own_id(two, other)
    assert own_id(one, own_id(one, given)) == own_id(one, given)
