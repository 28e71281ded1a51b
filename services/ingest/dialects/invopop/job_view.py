"""A job in Invopop's shape. One body serves readers of all three editions of the API (reference/vendor-apis.md §2.2)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from contracts import JobStage, derived
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import former_files
from services.ingest.adapters.store.operations import rows_of
from services.ingest.core.backlog import merge
from services.ingest.dialects.invopop import intents, store
from services.ingest.dialects.invopop.links import FILE_OUTPUT, JOB_OUTPUT, Links, links_for
from services.ingest.http.errors import ApiError
from services.ingest.http.parameters import published_definition
from shared import clock
from shared.web.api_keys import Principal

Record = dict[str, Any]
MAX_EVENTS = 2000
_EVENTS = text("SELECT body FROM history WHERE job_id = :j AND body LIKE '%\"job_event\"%' ORDER BY id LIMIT :n")


async def job_body(gateway: Gateway, who: Principal, job_id: str, record: Record | None = None) -> Record:
    """The job's answer body. Raises 404."""
    record = record or await gateway.record("job_view", job_id, who.tenant_id)
    if record is None:
        raise ApiError(404, f"There is no job {job_id[:200]}.")
    tenant, workflow = who.tenant_id, str(record["workflow"] or "").partition("@")[0]

    def look(c: Connection) -> tuple[Any, list[Record], str | None, list[Record]]:
        asked = store.request_of(c, tenant, job_id)
        events = [json.loads(b) for b in c.execute(_EVENTS, {"j": job_id, "n": MAX_EVENTS}).scalars()]
        files = [json.loads(b) for b in c.execute(text(former_files.OF_JOB), {"v": job_id, "n": 100}).scalars()]
        return asked, events, store.shown_steps(c, tenant, workflow), files

    asked, events, flow, files = await gateway.store.read(look)
    requested = json.loads(asked.body) if asked is not None else {}
    ended = JobStage(record["stage"]).terminal
    found = intents.intents(job_id, events, step_names(flow, str(record["workflow"])))
    if not ended and not any(f.get("worker") for f in files):
        await _note_unserved(gateway, found, record, flow)
    body: Record = {
        "id": job_id, "created_at": record["creation_date"], "updated_at": record["update_date"],
        "completed_at": record["finish_date"] or (record["update_date"] if ended else None),
        "status": intents.status_of(record["stage"], found), "workflow_id": requested.get("workflow_id") or workflow,
        "key": requested.get("key") or record.get("job_key"), "tags": requested.get("tags") or [], "intents": found,
        "faults": intents.faults(record["stage"], found, record["error_messages"]), **_arguments(requested),
    }  # fmt: skip
    links = await links_for(gateway, who)
    await _with_entry(gateway, who, body, requested, links)
    made = [(FILE_OUTPUT, f["id"], o) for f in files for o in f.get("outputs") or ()]
    made += [(JOB_OUTPUT, job_id, o) for o in record.get("outputs") or ()]
    body["attachments"] = [*body.get("attachments", []), *_attachments(made, links)]
    return {name: value for name, value in body.items() if value is not None}


def _arguments(requested: Record) -> Record:
    """`args`, whose values are text, and `meta` as the client sent them."""
    given = requested.get("args") if requested.get("args") is not None else requested.get("meta")
    if given is None:
        return {}
    return {
        "args": {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()},
        "meta": given,
    }


async def _note_unserved(gateway: Gateway, found: list[Record], record: Record, flow: str | None) -> None:
    step, workflow = str(record.get("step") or ""), str(record["workflow"] or "").partition("@")[0]
    if flow is not None:
        action = json.loads(flow).get(step, {}).get("action")
    else:
        definition = await published_definition(gateway, workflow) or {}
        steps = [*definition.get("steps", ()), *definition.get("rescue", ())]
        action = next((s.get("action") for s in steps if s.get("name") == step), None)
    states = await gateway.store.read(lambda c: rows_of(c, "SELECT body FROM backlog_view ORDER BY at", {}))
    now = clock.unix()
    fresh = [state for state in states if datetime.fromisoformat(state["observed_at"]).timestamp() > now - intents.SERVED_S]
    intents.note_unserved(found, action, merge(fresh, None, now)["workers"], now)


async def _with_entry(gateway: Gateway, who: Principal, body: Record, requested: Record, links: Links) -> None:
    entry_id = requested.get("silo_entry_id") or derived(body["id"], "entry")
    entry = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, "id", entry_id))
    if entry is not None:
        attachments = links.files(entry_id, entry["attachments"])
        body |= {"silo_entry_id": entry_id, "envelope": entry.get("data"), "attachments": attachments}


def _attachments(made: list[tuple[str, str, Record]], links: Links) -> list[Record]:
    counts: dict[tuple[str, str], int] = {}
    found = []
    for kind, owner, output in made:
        number = counts[kind, owner] = counts.get((kind, owner), 0) + 1
        # The path of the output in our own API, which ids of earlier releases were made of.
        base = f"/v1/{'files' if kind == FILE_OUTPUT else 'jobs'}/{owner}/outputs"
        attachment = {
            "id": derived(base, str(number), "attachment"), "name": output["file_name"], "category": output.get("category"),
            "mime": output["content_type"], "size": output["size"], "hash": output["sha256"], "stored": True,
            "url": links.output(kind, owner, number),
        }  # fmt: skip
        found.append({name: value for name, value in attachment.items() if value is not None})
    return found


def step_names(flow: str | None, workflow: str) -> Callable[[str], Record]:
    """How the steps of a workflow are shown; steps of our own workflows appear under their own names. Editions before 2023-06
    read `integration_id`."""
    named: dict[str, Record] = json.loads(flow) if flow is not None else {}

    def shown(step: str) -> Record:
        known = named.get(step) or {"step_id": derived(workflow, step, "step"), "name": step, "provider": "stageline"}
        return {
            "step_id": known["step_id"],
            "integration_id": known["step_id"],
            "name": known["name"],
            "provider": known["provider"],
        }

    return shown
