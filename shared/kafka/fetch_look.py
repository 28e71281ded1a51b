"""What an aiokafka consumer is to ask for next, found in one light pass.

aiokafka looks at every partition with half a dozen calls and a line of log that nobody reads, and does so twice per answer: once while
the answer has not been taken over yet, when it will not ask anyway, and once after it, before whoever waits for the records has his turn.
A worker reads 120 partitions; the two looks stood before each of its tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

Actions = tuple[list[Any], dict[Any, Any], float, bool, list[Any]]
"""Fetch requests, positions to be found, seconds until the next look, whether leaders are unknown, what is paused: as aiokafka has them."""

FULL_S = 60.0
"""How long a broker is not asked while records of it are not taken over; it is asked at once when they are. aiokafka asks after 0.1 s for
all other partitions, and with that waits for them, until they have something or a long poll is over: what came meanwhile to those whose
records had just been taken over waited as long, up to 1.2 s, with every core idle."""


def look_lightly(fetcher: Any) -> None:
    """Replace the look of an aiokafka `Fetcher`. Whatever is not as it is nearly always is left to aiokafka's own."""
    fetcher._prefetch_backoff = FULL_S
    thorough: Callable[[Any], Actions] = fetcher._get_actions_per_node

    def look(assignment: Any) -> Actions:
        rest = _at_rest(fetcher)
        if rest is not None:
            return [], {}, rest, False, []
        found = None if fetcher._records or fetcher._client_rack else _wanted(fetcher, assignment)
        return thorough(assignment) if found is None else (found, {}, fetcher._fetcher_timeout, False, [])

    fetcher._get_actions_per_node = look


def _at_rest(fetcher: Any) -> float | None:
    """Seconds until the next look, when every broker has been asked, or has answered what is not taken over; else None."""
    cluster = fetcher._client.cluster
    busy, rest = set(fetcher._in_flight), 0.0
    for tp, found in fetcher._records.items():
        left = found.calculate_backoff()
        if not left:
            return None
        rest = max(rest, left)
        busy.add(cluster.leader_for_partition(tp))
    brokers = {broker.nodeId for broker in cluster.brokers()}
    return (rest or fetcher._fetcher_timeout) if brokers and brokers <= busy else None


def _wanted(fetcher: Any, assignment: Any) -> list[tuple[Any, FetchRequest]] | None:
    """A request for every broker that has none; None if a partition has no leader or position, or is paused."""
    busy, most = fetcher._in_flight, fetcher._max_partition_fetch_bytes
    leaders = fetcher._client.cluster._partitions
    nodes: dict[Any, dict[str, list[tuple[int, int, int]]]] = {}
    for tp, state in assignment._tp_state.items():
        topic, partition = tp
        known = leaders.get(topic, {}).get(partition)
        position = state._position
        if known is None or known.leader in (None, -1) or position is None or state._paused:
            return None
        if known.leader not in busy:
            nodes.setdefault(known.leader, {}).setdefault(topic, []).append((partition, position, most))
    return [(node, _request(fetcher, topics)) for node, topics in nodes.items()]


def _request(fetcher: Any, topics: dict[str, list[tuple[int, int, int]]]) -> FetchRequest:
    # An answer holds so much and no more, and the broker begins with what stands first, unless it keeps a session and takes turns itself.
    order = list(topics.items())
    random.shuffle(order)
    return FetchRequest(
        fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes, fetcher._fetch_max_bytes, fetcher._isolation_level, order
    )
