"""The session's rules, and any order of commands against a model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts import (
    AddFile,
    CloseSession,
    EraseSession,
    FileAdded,
    FileRef,
    JobRequest,
    Message,
    OpenSession,
    SessionClosed,
    SessionCommand,
    SessionCommandRefused,
    SessionErased,
    SessionExpired,
    SessionOpened,
    Tenancy,
)
from services.session.core.decide import Expire, decide
from services.session.core.session import Session, SessionState

OWNER = Tenancy(tenant_id="t1")


class Shelf:
    """Files of the one session, as the store keeps them."""

    def __init__(self) -> None:
        self.kept: dict[str, FileRef] = {}

    def file(self, session_id: str, file_id: str) -> FileRef | None:
        return self.kept.get(file_id)

    def files(self, session_id: str) -> tuple[FileRef, ...]:
        return tuple(self.kept.values())


class SessionMachine(RuleBasedStateMachine):
    """Late files are refused, the session is closed once, and every command is answered once."""

    def __init__(self) -> None:
        super().__init__()
        self.session: Session | None = None
        self.shelf = Shelf()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.closed: list[SessionClosed] = []
        self.answers: dict[str, Message] = {}
        self.n = 0

    def feed(self, event: SessionCommand | Expire) -> tuple[Message, ...]:
        decision = decide(self.session, event, self.now, self.shelf)
        if decision.adds_file and isinstance(event, AddFile):
            self.shelf.kept[event.file.file_id] = event.file
        self.session = decision.session if decision.session is not None else self.session
        if decision.erases:
            self.session = None
            self.shelf.kept.clear()
        for message in decision.outputs:
            if isinstance(message, SessionClosed):
                self.closed.append(message)
        if not isinstance(event, Expire):
            assert len(decision.outputs) == 1
            assert decision.outputs[0].caused_by == event.command_id  # type: ignore[attr-defined]
        return decision.outputs

    def command(self, owner: Tenancy = OWNER) -> dict[str, object]:
        self.n += 1
        return {"command_id": f"c{self.n}", "session_id": "s", "owner": owner, "issued_at": self.now}

    @rule(ttl=st.integers(60, 600))
    def open(self, ttl: int) -> None:
        (answer,) = self.feed(OpenSession(ttl_s=ttl, **self.command()))  # type: ignore[arg-type]
        is_open = self.session is not None and self.session.state is SessionState.OPEN
        assert isinstance(answer, SessionOpened if is_open else SessionCommandRefused)

    @rule(number=st.integers(0, 5), content=st.sampled_from(["a", "b"]))
    def add(self, number: int, content: str) -> None:
        before = self.session
        file = FileRef(file_id=f"f{number}", file_name="x", sha256=content * 64, blob_name=f"t1/{content}/{number}")
        known = self.shelf.kept.get(file.file_id)
        (answer,) = self.feed(AddFile(file=file, **self.command()))  # type: ignore[arg-type]
        takes = before is not None and before.state is SessionState.OPEN and before.expires_at > self.now
        takes = takes and (known is None or known.sha256 == file.sha256)
        assert isinstance(answer, FileAdded if takes else SessionCommandRefused)

    @rule(priority=st.sampled_from(["low", "high"]))
    def close(self, priority: str) -> None:
        before = self.session
        (answer,) = self.feed(CloseSession(job=JobRequest(priority=priority), **self.command()))  # type: ignore[arg-type]
        takes = (
            before is not None and before.state is SessionState.OPEN and before.expires_at > self.now and before.file_count > 0
        )
        assert isinstance(answer, SessionClosed if takes else SessionCommandRefused)
        if before is not None and before.state is SessionState.CLOSED:
            assert isinstance(answer, SessionCommandRefused) and answer.job_id == before.job_id
            assert answer.reason in ("closed", "other_body")

    @rule()
    def erase(self) -> None:
        before, names = self.session, {f.blob_name for f in self.shelf.kept.values()}
        (answer,) = self.feed(EraseSession(reason="asked", **self.command()))  # type: ignore[arg-type]
        if before is None or before.state is SessionState.CLOSED:
            assert isinstance(answer, SessionCommandRefused) and self.session == before
            return
        assert isinstance(answer, SessionErased) and set(answer.blobs) == names and self.session is None
        assert answer.part == 0 and answer.parts == 1

    @rule()
    def somebody_else_sees_nothing(self) -> None:
        (answer,) = self.feed(CloseSession(job=JobRequest(), **self.command(Tenancy(tenant_id="t2"))))  # type: ignore[arg-type]
        assert isinstance(answer, SessionCommandRefused) and answer.reason == "unknown_session" and answer.job_id is None

    @rule(seconds=st.integers(1, 400))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        outputs = self.feed(Expire("s"))
        assert all(isinstance(o, SessionExpired) for o in outputs)

    @invariant()
    def at_most_one_closing_with_every_file(self) -> None:
        assert len(self.closed) <= 1
        if self.closed:
            assert self.closed[0].files == self.shelf.files("s")
        if self.session is not None:
            assert self.session.file_count == len(self.shelf.kept)


SessionMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSessionMachine = SessionMachine.TestCase


def test_a_session_with_many_objects_is_erased_in_parts_and_names_no_foreign_object() -> None:
    now, shelf = datetime(2026, 1, 1, tzinfo=UTC), Shelf()
    for n in range(4500):
        shelf.kept[f"f{n}"] = FileRef(file_id=f"f{n}", file_name="x", blob_name=f"{'t1' if n else 'other'}/aa/{n:05}")
    session = Session("s", OWNER, SessionState.EXPIRED, now, now, file_count=4500)
    command = EraseSession(command_id="c", session_id="s", owner=OWNER, issued_at=now)
    decision = decide(session, command, now, shelf)
    assert decision.erases and [(o.part, o.parts, len(o.blobs)) for o in decision.outputs if isinstance(o, SessionErased)] == [
        (0, 3, 2000), (1, 3, 2000), (2, 3, 499),
    ]  # fmt: skip
    assert len({o.message_id for o in decision.outputs}) == 3


def test_the_text_for_an_unknown_session_is_the_documents_own() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    command = CloseSession(
        command_id="c", session_id="456f1234-e89b-12d3-a456-426655440000", owner=OWNER, issued_at=now, job=JobRequest()
    )
    (answer,) = decide(None, command, now, Shelf()).outputs
    assert isinstance(answer, SessionCommandRefused)
    assert answer.message == "Deferred Session with ID 456f1234-e89b-12d3-a456-426655440000 does not exist."
