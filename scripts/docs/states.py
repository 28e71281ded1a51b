"""The states of a file's way through its job: a diagram of at most twelve edges, and the whole transition table."""

from __future__ import annotations

from scripts.docs.markdown import table
from services.job_orchestrator.core.job import LANE_TABLE, LaneState, Signal

GROUPS: dict[str, tuple[str, frozenset[LaneState]]] = {
    "between": ("Between steps", frozenset({LaneState.IDLE, LaneState.ARRIVED})),
    "held": ("Held back", frozenset({LaneState.READY, LaneState.WAITING, LaneState.BACKOFF})),
    "worker": ("With a worker", frozenset({LaneState.QUEUED, LaneState.RUNNING})),
    "ended": ("Ended", frozenset({LaneState.DONE, LaneState.FAILED, LaneState.INVALID, LaneState.CANCELLED})),
}
"""Node of the diagram → its title and the states that it stands for. Every state is in one group."""


WORDS = {
    Signal.START: "step begins", Signal.GRANT: "credit", Signal.POKE: "answer from outside", Signal.RUN: "heartbeat",
    Signal.OK: "report", Signal.SKIP: "report", Signal.KO: "report", Signal.ERR: "report", Signal.WAIT: "worker asks for time",
    Signal.DUE: "timer", Signal.CANCEL: "cancel",
}  # fmt: skip
"""Signal → what happens, in the words of the diagram."""


def edges() -> dict[tuple[str, str], list[str]]:
    """(from, to) → what leads from one group to another, in words. Changes within a group are left out."""
    group_of = {state: group for group, (_, members) in GROUPS.items() for state in members}
    found: dict[tuple[str, str], set[Signal]] = {}
    for (state, signal), targets in LANE_TABLE.items():
        for target in targets:
            if group_of[state] != group_of[target]:
                found.setdefault((group_of[state], group_of[target]), set()).add(signal)
    order = list(GROUPS)
    keys = sorted(found, key=lambda edge: (order.index(edge[0]), order.index(edge[1])))
    return {key: list(dict.fromkeys(WORDS[signal] for signal in Signal if signal in found[key])) for key in keys}


def diagram() -> str:
    """Mermaid state diagram of the groups."""
    nodes = [f'    state "{title}: {_names(members)}" as {group}' for group, (title, members) in GROUPS.items()]
    lines = [f"    {a} --> {b}: {', '.join(words)}" for (a, b), words in edges().items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *nodes, "    [*] --> between", *lines, "    ended --> [*]", "```"])


def table_of_transitions() -> str:
    """A row per state and set of targets: the signals taken there, and where they may lead. What is not listed is refused."""
    rows = []
    for state in LaneState:
        by_targets: dict[frozenset[LaneState], list[str]] = {}
        for (at, signal), targets in LANE_TABLE.items():
            if at is state:
                by_targets.setdefault(frozenset(targets), []).append(f"`{signal.value}`")
        rows += [[f"`{state.value}`", ", ".join(signals), _names(targets)] for targets, signals in by_targets.items()]
        if not by_targets:
            rows.append([f"`{state.value}`", "none", "an end"])
    return table(["state", "signals", "may lead to"], rows)


def _names(states: frozenset[LaneState]) -> str:
    return ", ".join(state.value for state in LaneState if state in states)
