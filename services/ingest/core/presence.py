"""Workers as the gateway shows them, by their last signs of life. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from contracts.presence import WORKER_ALIVE_S

Record = dict[str, Any]


def worker_of(seen: Record, now: float) -> Record:
    """A worker by its last sign of life. `state` is `live`, `left` (it stopped), or `silent`. `holds` are its tasks at that time; None: it
    does not say.

    `now` is in Unix seconds.
    """
    state = _state(seen, now)
    age = max(0.0, now - datetime.fromisoformat(seen["seen_at"]).timestamp())
    return {
        "worker": seen["worker"], "state": state, "actions": seen["actions"], "slots": seen["slots"], "client": seen.get("client"),
        "seen_at": seen["seen_at"], "age_s": round(age, 1), "holds": seen.get("holds"),
    }  # fmt: skip


def live_by_action(seen: Iterable[Record], now: float) -> Counter[str]:
    """Action → number of live workers that take it."""
    return Counter(action for one in seen if _state(one, now) == "live" for action in set(one["actions"]))


def _state(seen: Record, now: float) -> str:
    if seen.get("leaving"):
        return "left"
    return "live" if now - datetime.fromisoformat(seen["seen_at"]).timestamp() <= WORKER_ALIVE_S else "silent"
