"""A job in Invopop's shape. One body serves readers of all three editions of the API (reference/vendor-apis.md §2.2)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, text

from contracts import JobStage, derived
from services.ingest.adapters.gateway import Gateway
from services.ingest.dialects.invopop import intents, store
from services.ingest.http.errors import ApiError
from shared.web.api_keys import Principal

Record = dict[str, Any]
MAX_EVENTS = 2000
_EVENTS = text("SELECT body FROM history WHERE job_id = :j AND body LIKE '%\"job_event\"%' ORDER BY id LIMIT :n")


async def job_body(gateway: Gateway, who: Principal, job_id: str, record: Record | None = None) -> Record:
    """The job's answer body. Raises 404."""
    record = record or await gateway.record("job_view", job_id, who.tenant_id)
    if record is None:
        raise ApiError(404, f"There is no job {job_id[:200]}.")
    tenant = who.tenant_id

    def look(c: Connection) -> tuple[Any, list[Record], Any, list[Record]]:
        asked = store.request_of(c, tenant, job_id)
        events = [json.loads(b) for b in c.execute(_EVENTS, {"j": job_id, "n": MAX_EVENTS}).scalars()]
        flow = store.flow_by(c, tenant, "name", str(record["workflow"] or "").partition("@")[0])
        files = [
            json.loads(b)
            for b in c.execute(
                text("SELECT body FROM file_view WHERE job_id = :j ORDER BY created_at, id LIMIT 100"), {"j": job_id}
            ).scalars()
        ]
        return asked, events, flow, files

    asked, events, flow, files = await gateway.store.read(look)
    requested = json.loads(asked.body) if asked is not None else {}
    found = intents.intents(job_id, events, step_names(flow, str(record["workflow"])))
    body: Record = {
        "id": job_id, "created_at": record["creation_date"], "updated_at": record["update_date"],
        "completed_at": record["finish_date"] or (record["update_date"] if JobStage(record["stage"]).terminal else None),
        "status": intents.status_of(record["stage"], found),
        "workflow_id": requested.get("workflow_id") or str(record["workflow"] or "").partition("@")[0],
        "key": requested.get("key") or record.get("job_key"), "tags": requested.get("tags") or [], "intents": found,
        "faults": intents.faults(record["stage"], found, record["error_messages"]),
    }  # fmt: skip
    given = requested.get("args") if requested.get("args") is not None else requested.get("meta")
    if given is not None:
        body["args"] = body["meta"] = given
    await _with_entry(gateway, who, body, requested, job_id)
    made = [(f"/v1/files/{f['id']}/outputs", o) for f in files for o in f.get("outputs") or ()]
    made += [(f"/v1/jobs/{job_id}/outputs", o) for o in record.get("outputs") or ()]
    body["attachments"] = [*body.get("attachments", []), *_attachments(made)]
    return {name: value for name, value in body.items() if value is not None}


async def _with_entry(gateway: Gateway, who: Principal, body: Record, requested: Record, job_id: str) -> None:
    entry_id = requested.get("silo_entry_id") or derived(job_id, "entry")
    entry = await gateway.store.read(lambda c: store.entry_by(c, who.tenant_id, "id", entry_id))
    if entry is not None:
        body |= {"silo_entry_id": entry_id, "envelope": entry.get("data"), "attachments": entry["attachments"]}


def _attachments(made: list[tuple[str, Record]]) -> list[Record]:
    counts: dict[str, int] = {}
    found = []
    for base, output in made:
        counts[base] = counts.get(base, 0) + 1
        found.append(
            {
                "id": derived(base, str(counts[base]), "attachment"), "name": output["file_name"], "category": output.get("category"),
                "mime": output["content_type"], "size": output["size"], "hash": output["sha256"], "url": f"{base}/{counts[base]}",
            }
        )  # fmt: skip
    return found


def step_names(flow: Any, workflow: str) -> Callable[[str], Record]:
    """How the steps of a workflow are shown; steps of our own workflows appear under their own names. Editions before 2023-06
    read `integration_id`."""
    named: dict[str, Record] = json.loads(flow.shown) if flow is not None else {}

    def shown(step: str) -> Record:
        known = named.get(step) or {"step_id": derived(workflow, step, "step"), "name": step, "provider": "stageline"}
        return {
            "step_id": known["step_id"],
            "integration_id": known["step_id"],
            "name": known["name"],
            "provider": known["provider"],
        }

    return shown
