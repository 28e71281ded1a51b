"""Fetch sessions: whatever gets lost, a broker that answers looks at exactly the partitions and offsets that the consumer wants."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v6, FetchRequest_v11, FetchResponse_v6, FetchResponse_v11
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from shared.kafka.fetch_sessions import MAX_EPOCH, FetchSession, SessionFetchRequest, Wanted, fetch_in_sessions

PLACES = [(topic, partition) for topic in ("a", "b") for partition in range(3)]
UNKNOWN, WRONG_EPOCH = 70, 71


def request(wanted: Wanted) -> FetchRequest:
    """As aiokafka makes it: every partition that it wants."""
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, partition), (offset, most) in wanted.items():
        topics.setdefault(topic, []).append((partition, offset, most))
    return FetchRequest(500, 1, 1000, 0, list(topics.items()))


def named(sent: Any) -> Wanted:
    """(topic, partition) → (offset, most bytes) of a structure on the wire."""
    return {(topic, entry[0]): (entry[2], entry[4]) for topic, entries in sent.topics for entry in entries}


@dataclass
class ModelBroker:
    """Sessions as KIP-227 describes them."""

    room: bool = True
    next_id: int = 1
    sessions: dict[int, tuple[int, Wanted]] = field(default_factory=dict)

    def answer(self, sent: Any) -> tuple[int, int, Wanted | None]:
        """(error, session id, what it looks at)."""
        if sent.session_epoch in (0, -1):
            self.sessions.pop(sent.session_id, None)
            looked = named(sent)
            if sent.session_epoch == -1 or not self.room:
                return 0, 0, looked
            made, self.next_id = self.next_id, self.next_id + 1
            self.sessions[made] = (1, looked)
            return 0, made, looked
        if sent.session_id not in self.sessions:
            return UNKNOWN, 0, None
        epoch, known = self.sessions[sent.session_id]
        if epoch != sent.session_epoch:
            return WRONG_EPOCH, 0, None
        gone = {(topic, p) for topic, partitions in sent.forgotten_topics_data for p in partitions}
        looked = {place: at for place, at in {**known, **named(sent)}.items() if place not in gone}
        self.sessions[sent.session_id] = (epoch + 1 if epoch < MAX_EPOCH else 1, looked)
        return 0, sent.session_id, looked


class Consumer(RuleBasedStateMachine):
    """A consumer whose positions move, over connections that break, with a broker that forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.session = FetchSession()
        self.broker = ModelBroker()
        self.wanted: Wanted = {PLACES[0]: (0, 100)}
        self.failures = 0

    @rule(place=st.sampled_from(PLACES), offset=st.integers(0, 3))
    def want(self, place: tuple[str, int], offset: int) -> None:
        """Assigned, resumed, read on, or sought back."""
        self.wanted = {**self.wanted, place: (offset, 100)}

    @precondition(lambda self: len(self.wanted) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Paused, revoked, or its records are still in hand."""
        gone = data.draw(st.sampled_from(sorted(self.wanted)))
        self.wanted = {place: at for place, at in self.wanted.items() if place != gone}

    def _sent(self) -> Any:
        made = SessionFetchRequest(request(self.wanted), self.session).build(FetchRequest_v11)
        return FetchRequest_v11.decode(made.encode())

    @rule()
    def fetch(self) -> None:
        sent = self._sent()
        error, session_id, looked = self.broker.answer(sent)
        self.session.answered(error, session_id)
        self.failures = self.failures + 1 if error else 0
        if not error:
            assert looked == self.wanted
        assert self.failures <= 1, "after a refusal the next request asks for everything"

    @rule()
    def lost_on_the_way_there(self) -> None:
        self._sent()
        self.session.broken()

    @rule()
    def lost_on_the_way_back(self) -> None:
        self.broker.answer(self._sent())
        self.session.broken()

    @rule()
    def made_twice(self) -> None:
        """A connection was lost before anything was sent."""
        self._sent()

    @rule()
    def restart(self) -> None:
        self.broker = ModelBroker(room=self.broker.room)

    @rule(room=st.booleans())
    def fill(self, room: bool) -> None:
        self.broker.room = room

    @rule()
    def long_ago(self) -> None:
        """The last number there is, and then the first again."""
        if self.session.epoch and self.session.id in self.broker.sessions:
            self.session.epoch = MAX_EPOCH
            self.broker.sessions[self.session.id] = (MAX_EPOCH, self.broker.sessions[self.session.id][1])


TestConsumer = Consumer.TestCase


def test_only_what_changed_is_named() -> None:
    session = FetchSession()
    wanted = {place: (7, 100) for place in PLACES}
    first = SessionFetchRequest(request(wanted), session).build(FetchRequest_v11)
    assert named(first) == wanted and (first.session_id, first.session_epoch) == (0, 0)
    session.answered(0, 41)
    later = {**wanted, ("a", 1): (9, 100)}
    del later["b", 2]
    second = SessionFetchRequest(request(later), session).build(FetchRequest_v11)
    assert named(second) == {("a", 1): (9, 100)} and second.forgotten_topics_data == [("b", [2])]
    assert (second.session_id, second.session_epoch) == (41, 1)


def test_a_broker_that_knows_no_sessions_is_asked_as_before() -> None:
    whole = request({("a", 0): (7, 100)})
    assert SessionFetchRequest(whole, FetchSession()).build(FetchRequest_v6) == whole.build(FetchRequest_v6)


class Connection:
    """A client's `send`: answers what it is told to, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []

    async def send(self, node_id: Any, request: Any, **options: Any) -> Any:
        self.sent.append(request.build(FetchRequest_v11) if isinstance(request, FetchRequest) else request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_what_is_in_doubt_is_asked_anew() -> None:
    ok, refused = FetchResponse_v11(0, 0, 5, []), FetchResponse_v11(0, WRONG_EPOCH, 0, [])
    client = Connection(ok, ok, ConnectionError("gone"), ok, refused, ok, FetchResponse_v6(0, []), "metadata")
    sent = client.sent
    fetch_in_sessions(client)
    wanted = request({("a", 0): (7, 100), ("a", 1): (7, 100)})
    for _ in range(2):
        await client.send(1, wanted)
    with pytest.raises(ConnectionError):
        await client.send(1, wanted)
    for _ in range(4):
        await client.send(1, wanted)
    assert [(s.session_id, s.session_epoch) for s in sent] == [(0, 0), (5, 1), (5, 2), (5, 0), (5, 1), (5, 0), (5, 1)]
    assert [len(named(s)) for s in sent] == [2, 0, 0, 2, 0, 2, 0]
    assert await client.send(2, "metadata request") == "metadata" and sent[-1] == "metadata request"


@pytest.mark.parametrize("before", [0, 2], ids=["at the first request", "within a session"])
async def test_a_refusal_that_no_new_session_mends_is_said(before: int) -> None:
    ok, refused = FetchResponse_v11(0, 0, 5, []), FetchResponse_v11(0, -1, 0, [])
    client = Connection(*[ok] * before, refused, ok)
    sent = client.sent
    fetch_in_sessions(client)
    wanted = request({("a", 0): (7, 100)})
    for _ in range(before):
        await client.send(1, wanted)
    # aiokafka logs it and waits before it asks again, as it does when a connection is lost.
    with pytest.raises(KafkaError, match="node 1"):
        await client.send(1, wanted)
    await client.send(1, wanted)
    assert sent[-1].session_epoch == 0 and named(sent[-1]) == {("a", 0): (7, 100)}


async def test_a_broker_that_never_takes_a_session_up_is_not_asked_without_end() -> None:
    client = Connection(FetchResponse_v11(0, UNKNOWN, 0, []))
    fetch_in_sessions(client)
    with pytest.raises(KafkaError):
        await client.send(1, request({("a", 0): (7, 100)}))


async def test_after_a_few_records_a_broker_is_let_rest() -> None:
    def answer(size: int) -> Any:
        return FetchResponse_v11(0, 0, 5, [("a", [(0, 0, 9, 9, 0, [], -1, b"x" * size)])] if size else [])

    client = Connection(answer(0), answer(300), answer(10), answer(0))
    told: list[int] = []

    def rest(size: int) -> float:
        told.append(size)
        return 60.0 if size == 10 else 0.0

    fetch_in_sessions(client, rest)
    wanted = request({("a", 0): (7, 100)})
    for _ in range(3):
        await client.send(1, wanted)
    later = asyncio.create_task(client.send(1, wanted))
    done, _ = await asyncio.wait([later], timeout=0.2)
    assert not done and len(client.sent) == 3 and told == [0, 300, 10]
    later.cancel()
    await client.send(2, wanted)
    assert len(client.sent) == 4, "another broker is asked"
