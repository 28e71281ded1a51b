"""A job as Invopop shows it: intents and their events, derived from the job's history (reference/vendor-apis.md §2.1, §2.4).
Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from contracts.identity import derived

Record = dict[str, Any]
ENDS = frozenset({"OK", "SKIP", "KO"})
STATUSES = {"OK": "OK", "SKIP": "SKIP", "KO": "KO", "ERR": "KO"}
"""Outcome of a step → Invopop's status. An error without retries left is KO."""
RESCUED = ("OK", "SKIP")
"""How the last step of a rescue ends, before the reason of the failure."""
FINAL = {"completed": "OK", "failed": "KO", "invalid": "KO", "cancelled": "CANCEL"}
SERVED_S = 120.0
"""Seconds since its last sign of life during which a worker's actions count as served."""
Shown = Callable[[str], Record]
"""Step → its `step_id`, `name` and `provider` in the workflow."""


def at(event: Mapping[str, Any]) -> str:
    """An event's time, with milliseconds."""
    moment = datetime.fromtimestamp(float(event["event_time"]), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Intents:
    def __init__(self, job_id: str, shown: Shown) -> None:
        self.job_id = job_id
        self.shown = shown
        self.found: list[Record] = []
        self.step: str | None = None

    def begin(self, step: str, event: Mapping[str, Any]) -> None:
        intent = {"id": intent_id(self.job_id, step), **self.shown(step), "created_at": at(event), "updated_at": at(event)}
        self.found.append({**intent, "completed": False, "events": []})
        self.step = step
        self.add("RUN", event)

    def fail(self, event: Mapping[str, Any], code: str | None, message: str | None) -> None:
        """The job has failed. After a rescue its last intent gets the reason as well: clients read the job's outcome from there."""
        last = self.found[-1] if self.found else None
        if last is None or not last["completed"]:
            self.add("KO", event, code, message)
        elif last["events"][-1]["status"] in RESCUED:
            failed = next((i for i in reversed(self.found) if i["events"][-1]["status"] == "KO"), None)
            reason = failed["events"][-1] if failed is not None else {}
            # The step's own words, if they are the job's reason: an earlier failure may have been handled.
            if failed is not None and reason.get("message") and reason["message"] in (message or ""):
                code, message = reason.get("code") or code, f"{failed['name']}: {reason['message']}"
            last["completed"] = False
            self.add("KO", event, code, message)

    def add(self, status: str, event: Mapping[str, Any], code: str | None = None, message: str | None = None) -> None:
        if not self.found or self.found[-1]["completed"]:
            return
        intent = self.found[-1]
        entry: Record = {"index": len(intent["events"]), "at": at(event), "status": status}
        entry |= {k: v for k, v in (("code", code), ("message", message)) if v}
        intent["events"].append(entry)
        intent["updated_at"] = at(event)
        intent["completed"] = status in ENDS


def intents(job_id: str, history: Iterable[Mapping[str, Any]], shown: Shown) -> list[Record]:
    """The intents of a job in the order in which its steps began. `history` has the job's events in order."""
    made = _Intents(job_id, shown)
    for envelope in history:
        event = envelope["event"]
        name = event["event_name"]
        if name == "job_stage_update_event":
            _moved(made, envelope, event)
        elif name == "job_retry_event":
            made.add("ERR", envelope, event.get("code"), event.get("message"))
        elif name in ("job_failed_event", "job_invalid_event"):
            messages = event.get("error_messages") or [None]
            if event.get("stage") == "cancelled":
                made.add("KO", envelope, event.get("code"), event.get("message") or messages[-1])
            else:
                made.fail(envelope, event.get("code"), event.get("message") or messages[-1])
        elif name == "job_finished_event":
            made.add("OK", envelope)
    return made.found


def _moved(made: _Intents, envelope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    verb, step = event.get("verb"), event.get("step")
    if verb is not None:
        if verb == "queued":
            made.add("QUEUED", envelope, None, event.get("reason"))
        elif verb in ("poke", "retry"):
            made.add("POKE", envelope, None, event.get("reason"))
        return
    if event.get("previous_step") == made.step and event.get("step_status") in STATUSES:
        made.add(STATUSES[event["step_status"]], envelope, event.get("step_code"), event.get("step_message"))
    if step and step != made.step:
        made.add("OK", envelope)
        made.begin(step, envelope)


def intent_id(job_id: str, step: str) -> str:
    """Id of the intent of a step."""
    return derived(job_id, step, "intent")


def status_of(stage: str, found: list[Record]) -> str:
    """The job's status: that of its end, else of its newest event."""
    if stage in FINAL:
        return FINAL[stage]
    return str(found[-1]["events"][-1]["status"]) if found and found[-1]["events"] else "RUN"


def faults(stage: str, found: list[Record], messages: Iterable[str]) -> list[Record]:
    """Final errors of a failed job: its intents that ended as KO, else the job's own messages. A rescue only repeats the reason."""
    if stage not in ("failed", "invalid"):
        return []
    ends = [(i, i["events"][-1]) for i in found if i["events"] and i["events"][-1]["status"] == "KO" and not _is_rescue(i)]
    listed = [{"provider": i["provider"], "code": e.get("code") or "error", "message": e.get("message") or ""} for i, e in ends]
    return listed or [{"provider": "stageline", "code": stage, "message": message} for message in messages]


def _is_rescue(intent: Record) -> bool:
    return len(intent["events"]) > 1 and intent["events"][-2]["status"] in RESCUED


def note_unserved(found: list[Record], action: str | None, served: Mapping[str, float], now: float) -> None:
    """Add to the last intent that no worker serves its action, while nothing else has happened to it. `served` has the last sign of life of
    each action's workers; an empty one says nothing. Times in Unix seconds."""
    last = found[-1] if found else None
    waits = last is not None and not last["completed"] and [e["status"] for e in last["events"]] == ["RUN"]
    if last is None or not waits or action is None or not served or served.get(action, 0.0) > now - SERVED_S:
        return
    entry = {"index": 1, "at": last["updated_at"], "status": "QUEUED", "code": "no_worker"}
    last["events"].append({**entry, "message": f"No worker serves the action {action}."})
