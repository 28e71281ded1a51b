"""Incremental fetch sessions (KIP-227) for aiokafka, which asks for every partition every time and is answered about every one.

A worker reads 120 partitions; a task on one of them cost it 240 entries of requests and answers. In a session the broker remembers what was
asked, the request names what has changed since, and the answer what there is to say. Positions stay the client's: whatever is in doubt
ends the session, and the next request asks for everything again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest

FIRST = 7
"""Version of the Fetch API that knows sessions."""
UNKNOWN_SESSION, WRONG_EPOCH = 70, 71
MAX_EPOCH = 2**31 - 1
Wanted = dict[tuple[str, int], tuple[int, int]]
"""(topic, partition) → (offset, most bytes)."""


class FetchSession:
    """One consumer's session with one broker: what the broker knows, and the number of the next request."""

    def __init__(self) -> None:
        self.id = 0
        self.epoch = 0
        """0: the next request opens a session (and ends the one of `id`, if there is one)."""
        self._known: Wanted = {}
        self._asked: Wanted = {}

    def ask(self, wanted: Wanted) -> tuple[Wanted, list[tuple[str, int]]]:
        """What a request for `wanted` must name: what is new or different, and what is not wanted any more."""
        self._asked = wanted
        known = self._known if self.epoch else {}
        changed = {place: at for place, at in wanted.items() if known.get(place) != at}
        return changed, [] if known.keys() <= wanted.keys() else [p for p in known if p not in wanted]

    def answered(self, error: int, session_id: int) -> None:
        """What the broker said to the last request."""
        if error or (self.epoch and session_id != self.id):
            self.broken()
            self.id = 0 if error == UNKNOWN_SESSION else self.id
            return
        self._known = self._asked
        if self.epoch == 0:
            # 0: it keeps no session for us, having too many.
            self.id, self.epoch = session_id, 1 if session_id else 0
        else:
            self.epoch = self.epoch + 1 if self.epoch < MAX_EPOCH else 1

    def broken(self) -> None:
        """Nobody knows whether the broker has seen the last request."""
        self.epoch = 0


class SessionFetchRequest(FetchRequest):  # type: ignore[misc]
    """`whole`, asked within a session where the broker knows sessions."""

    _topics: list[tuple[str, list[tuple[int, int, int]]]]

    def __init__(self, whole: Any, session: FetchSession) -> None:
        self.__dict__.update(whole.__dict__)
        self._session = session

    def build(self, request_struct_class: Any) -> Any:
        """The structure to be sent, of the version that was agreed upon."""
        if request_struct_class.API_VERSION < FIRST:
            return super().build(request_struct_class)
        session = self._session
        changed, gone = session.ask({(topic, p): (offset, most) for topic, ps in self.topics for p, offset, most in ps})
        named: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), at in changed.items():
            named.setdefault(topic, []).append((partition, *at))
        forgotten: dict[str, list[int]] = {}
        for topic, partition in gone:
            forgotten.setdefault(topic, []).append(partition)
        whole, self._topics = self._topics, list(named.items())
        made = super().build(request_struct_class)
        # What was wanted is read again when the answer has come.
        self._topics = whole
        made.session_id, made.session_epoch = session.id, session.epoch
        made.forgotten_topics_data = list(forgotten.items())
        return made


def fetch_in_sessions(client: Any, rest: Callable[[int], float] = lambda size: 0.0) -> dict[Any, FetchSession]:
    """Let an `AIOKafkaClient` send its fetch requests within a session per broker, which are returned by node. After an answer with
    `size` bytes of records a broker is not asked for `rest(size)` seconds.

    An answer that ends a session holds no records, and the next request asks for everything. Any other refusal is raised: aiokafka reads
    no error but those of partitions, and would ask again at once and say nothing.
    """
    sessions: dict[Any, FetchSession] = {}
    send = client.send
    resting: dict[Any, float] = {}

    async def in_session(node_id: Any, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **options)
        session = sessions.setdefault(node_id, FetchSession())
        # One turn of the loop at least: whoever has got the last records begins before more are asked for.
        await asyncio.sleep(max(0.0, resting.pop(node_id, 0.0) - time.monotonic()))
        try:
            response = await send(node_id, SessionFetchRequest(request, session), **options)
        except BaseException:
            session.broken()
            raise
        resting[node_id] = time.monotonic() + rest(
            sum(len(p[-1] or b"") for _, partitions in response.topics for p in partitions)
        )
        if response.API_VERSION >= FIRST:
            opening, error = session.epoch == 0, response.error_code
            session.answered(error, response.session_id)
            if error and (opening or error not in (UNKNOWN_SESSION, WRONG_EPOCH)):
                raise for_code(error)(f"node {node_id} refused to be asked for records")
        return response

    client.send = in_session
    return sessions
