"""Merges the backlogs that several orchestrators publish into one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from contracts.presence import WORKER_ALIVE_S
from services.ingest.core.job_view import text

Record = dict[str, Any]
STALE_S = 60.0
"""After this time without news an orchestrator is gone or idle, and its rates no longer count."""


def merge(states: Iterable[Record], tenant: str | None, now: float, live: Mapping[str, int] | None = None) -> Record:
    """The backlog of all orchestrators, of one tenant or of all (None). `states` has the newest last, `now` is in Unix seconds.

    `live`: action → number of workers that have just given a sign of life. Each line says so, and since when there is none.

    All orchestrators see the same waiting tasks, so the newest state counts. Rates and wasted tasks are per orchestrator and are
    added.
    """
    known = list(states)
    lines: dict[tuple[str, str], Record] = {}
    workers: dict[str, float] = {}
    for state in known:
        fresh = now - _unix(state["observed_at"]) < STALE_S
        for line in state["lines"]:
            key = (line["action"], line["tenant_id"])
            rates = {k: (line[k] if fresh else 0.0) + lines.get(key, {}).get(k, 0.0) for k in ("arrival_per_s", "service_per_s")}
            lines[key] = {**line, **rates, "wasted": line["wasted"] + lines.get(key, {}).get("wasted", 0)}
        for action, at in state["workers"].items():
            workers[action] = max(at, workers.get(action, 0.0))
    newest = known[-1] if known else {"lines": [], "controls": [], "observed_at": None}
    current = {(line["action"], line["tenant_id"]) for line in newest["lines"]}
    shown = [_finished(line, key in current, now) for key, line in sorted(lines.items()) if tenant in (None, key[1])]
    result = [{**line, **_presence(line["action"], live or {}, workers, now)} for line in shown if line]
    controls = [c for c in newest.get("controls", []) if tenant is None or c["kind"] == "action" or c["name"] == tenant]
    return {"as_of": newest["observed_at"], "lines": result, "workers": workers, "controls": controls}


def _finished(line: Record, current: bool, now: float) -> Record | None:
    if not current:
        line = {**line, "waiting": 0, "in_flight": 0, "oldest_at": None, "gate": "open", "gate_message": ""}
    spare = line["service_per_s"] - line["arrival_per_s"]
    left = line["waiting"] + line["in_flight"]
    drained = round(now + left / spare) if left and spare > 0.01 else None
    age = round(now - line["oldest_at"], 1) if line.get("oldest_at") else None
    if not left and not line["wasted"] and line["service_per_s"] < 0.01:
        return None
    return {**line, "oldest_age_s": age, "drained_at": drained}


def _presence(action: str, live: Mapping[str, int], seen: Mapping[str, float], now: float) -> Record:
    """`workers`: how many are alive; `no_worker_since`: when the last one was (ISO 8601), `ever` if there was none, else null."""
    at = seen.get(action)
    # A worker that reports, and gives no other sign, is one worker.
    count = live.get(action) or int(at is not None and now - at <= WORKER_ALIVE_S)
    since = None if count else "ever" if at is None else text(datetime.fromtimestamp(at, UTC))
    return {"workers": count, "no_worker_since": since}


def _unix(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
