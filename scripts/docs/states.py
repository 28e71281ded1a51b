"""The states of a branch (one file's progress through its job): a diagram of at most twelve edges, and the transition table."""

from __future__ import annotations

from scripts.docs.markdown import table
from services.job_orchestrator.core.job import BRANCH_TABLE, BranchState, Trigger

GROUPS: dict[str, tuple[str, frozenset[BranchState]]] = {
    "between": ("Between steps", frozenset({BranchState.IDLE, BranchState.ARRIVED})),
    "held": ("Held back", frozenset({BranchState.READY, BranchState.WAITING, BranchState.BACKOFF})),
    "worker": ("With a worker", frozenset({BranchState.QUEUED, BranchState.RUNNING})),
    "ended": ("Ended", frozenset({BranchState.DONE, BranchState.FAILED, BranchState.INVALID, BranchState.CANCELLED})),
}
"""Node of the diagram → its title and its states. Every state is in one group."""

WORDS = {
    Trigger.START: "step begins", Trigger.GRANT: "credit", Trigger.SIGNAL: "answer from outside", Trigger.RUN: "heartbeat",
    Trigger.OK: "report", Trigger.SKIP: "report", Trigger.KO: "report", Trigger.ERR: "report", Trigger.WAIT: "worker asks for time",
    Trigger.DUE: "timer", Trigger.CANCEL: "cancel",
}  # fmt: skip
"""Trigger → label in the diagram."""


def edges() -> dict[tuple[str, str], list[str]]:
    """(from, to) → labels of the triggers that lead from one group to the other. Changes within a group are left out."""
    group_of = {state: group for group, (_, members) in GROUPS.items() for state in members}
    found: dict[tuple[str, str], set[Trigger]] = {}
    for (state, trigger), targets in BRANCH_TABLE.items():
        for target in targets:
            if group_of[state] != group_of[target]:
                found.setdefault((group_of[state], group_of[target]), set()).add(trigger)
    order = list(GROUPS)
    keys = sorted(found, key=lambda edge: (order.index(edge[0]), order.index(edge[1])))
    return {key: list(dict.fromkeys(WORDS[trigger] for trigger in Trigger if trigger in found[key])) for key in keys}


def diagram() -> str:
    """Mermaid state diagram of the groups."""
    nodes = [f'    state "{title}: {_names(members)}" as {group}' for group, (title, members) in GROUPS.items()]
    lines = [f"    {a} --> {b}: {', '.join(words)}" for (a, b), words in edges().items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *nodes, "    [*] --> between", *lines, "    ended --> [*]", "```"])


def table_of_transitions() -> str:
    """A row per state and set of target states, with the triggers between them. Other triggers are refused."""
    rows = []
    for state in BranchState:
        by_targets: dict[frozenset[BranchState], list[str]] = {}
        for (at, trigger), targets in BRANCH_TABLE.items():
            if at is state:
                by_targets.setdefault(frozenset(targets), []).append(f"`{trigger.value}`")
        rows += [[f"`{state.value}`", ", ".join(triggers), _names(targets)] for targets, triggers in by_targets.items()]
        if not by_targets:
            rows.append([f"`{state.value}`", "none", "an end"])
    return table(["state", "triggers", "may lead to"], rows)


def _names(states: frozenset[BranchState]) -> str:
    return ", ".join(state.value for state in BranchState if state in states)
