"""The light look asks for what aiokafka's own would, whatever state a consumer is in."""

from __future__ import annotations

from collections import defaultdict
from types import MethodType, SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from hypothesis import event, given
from hypothesis import strategies as st

from shared.kafka.fetch_look import look_lightly

PLACES = [TopicPartition(topic, p) for topic in ("a", "b") for p in range(4)]
NODES = st.sampled_from([1, 2])
STATES = st.fixed_dictionaries(
    {
        "leader": st.one_of(NODES, NODES, NODES, st.sampled_from([-1, None])),
        "position": st.one_of(st.integers(0, 9), st.integers(0, 9), st.none()),
        "paused": st.sampled_from([False] * 9 + [True]),
        "held": st.sampled_from([None] * 9 + [0.0, 0.05]),
    }
)


class Partition(SimpleNamespace):
    """A partition's state as aiokafka keeps it."""

    resume_fut = "resumed"
    has_valid_position = property(lambda self: self._position is not None)
    position = property(lambda self: self._position)
    paused = property(lambda self: self._paused)


def fetcher_in(states: list[dict[str, Any]], in_flight: set[int], unknown: bool) -> tuple[Any, Any]:
    """An aiokafka fetcher in some state, with its assignment."""
    leaders: dict[str, dict[int, Any]] = defaultdict(dict)
    for tp, state in zip(PLACES, states, strict=True):
        leaders[tp.topic][tp.partition] = SimpleNamespace(leader=state["leader"])
    if unknown:
        leaders.pop("b")
    cluster = SimpleNamespace(
        _partitions=dict(leaders),
        brokers=lambda: {Node(1), Node(2)},
        leader_for_partition=lambda tp: getattr(leaders.get(tp.topic, {}).get(tp.partition), "leader", None),
    )
    parts = {tp: Partition(_position=s["position"], _paused=s["paused"]) for tp, s in zip(PLACES, states, strict=True)}
    held = {tp: s["held"] for tp, s in zip(PLACES, states, strict=True) if s["held"] is not None}
    fetcher = SimpleNamespace(
        _client=SimpleNamespace(cluster=cluster), _in_flight=in_flight, _preferred_read_replica={}, _client_rack=None,
        _records={tp: SimpleNamespace(calculate_backoff=lambda left=left: left) for tp, left in held.items()},
        _max_partition_fetch_bytes=1000, _fetch_max_wait_ms=500, _fetch_min_bytes=1, _fetch_max_bytes=9, _isolation_level=0,
        _fetcher_timeout=0.2,
    )  # fmt: skip
    for name in ("_get_actions_per_node", "_select_read_replica"):
        setattr(fetcher, name, MethodType(getattr(Fetcher, name), fetcher))
    assignment = SimpleNamespace(tps=frozenset(PLACES), _tp_state=parts, state_value=parts.get)
    return fetcher, assignment


class Node:
    """A broker of the cluster."""

    def __init__(self, node: int) -> None:
        self.nodeId = node


def asked(actions: Any) -> dict[int, Any]:
    """Node → everything that is asked of it, in no order."""
    return {
        node: (
            {(topic, *entry) for topic, entries in r.topics for entry in entries},
            r._max_wait_ms, r._min_bytes, r._max_bytes, r._isolation_level,
        )
        for node, r in actions[0]
    }  # fmt: skip


@given(states=st.lists(STATES, min_size=len(PLACES), max_size=len(PLACES)), in_flight=st.sets(NODES), unknown=st.booleans())
def test_the_light_look_asks_for_what_the_thorough_one_would(
    states: list[dict[str, Any]], in_flight: set[int], unknown: bool
) -> None:
    fetcher, assignment = fetcher_in(states, in_flight, unknown)
    thorough = fetcher._get_actions_per_node(assignment)
    thorough_called: list[bool] = []
    own = fetcher._get_actions_per_node
    fetcher._get_actions_per_node = lambda a: thorough_called.append(True) or own(a)
    look_lightly(fetcher)
    found = fetcher._get_actions_per_node(assignment)
    event("thorough" if thorough_called else "light")
    assert asked(found) == asked(thorough)
    resting = in_flight | {s["leader"] for s in states if s["held"]} >= {1, 2}
    if not resting:
        # What rests for a moment may wait for it; nothing else that there is to do is left out.
        assert found[1:] == thorough[1:]
    elif not thorough_called:
        assert found[2] <= 0.2 and not found[0]


def test_where_all_is_well_aiokafka_is_not_asked() -> None:
    states = [{"leader": n % 2 + 1, "position": n, "paused": False, "held": None} for n in range(len(PLACES))]
    fetcher, assignment = fetcher_in(states, set(), False)
    expected = asked(fetcher._get_actions_per_node(assignment))
    fetcher._get_actions_per_node = None
    look_lightly(fetcher)
    assert asked(fetcher._get_actions_per_node(assignment)) == expected and len(expected) == 2
    fetcher._in_flight = {1}
    assert asked(fetcher._get_actions_per_node(assignment)) == {2: expected[2]}
    fetcher._in_flight = {1, 2}
    assert fetcher._get_actions_per_node(assignment) == ([], {}, 0.2, False, [])
