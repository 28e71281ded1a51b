"""Jobs without a session: remote files, once per idempotency key."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import Request
from sqlalchemy import Connection, text

from contracts import CreateJob, FileRef, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.dialects.alfred.bodies import JobCreate, RemoteUpload
from services.ingest.http.errors import ApiError
from services.ingest.http.multipart import clean_name
from shared import clock
from shared.objects.containers import SCHEME, container_url
from shared.web.api_keys import Principal
from shared.web.middleware import trace_of

KEPT_S = 2 * 365.25 * 86_400
"""How long an idempotency key stands for its first request: two years."""


async def submit_remote(request: Request, gateway: Gateway, who: Principal, body: RemoteUpload) -> dict[str, Any]:
    """Publish a CreateJob for the URLs and wait (bounded) until it shows; answers job and file ids."""
    urls = body.urls if body.urls is not None else [body.url] if body.url else []
    if bool(urls) == bool(body.container):
        raise ApiError(400, "url: one of url, urls and container with file_names is required", "url")
    await gateway.limits.open_job(who.tenant_id)
    await gateway.limits.hand_in(who.tenant_id, None)
    urls = urls or container_files(gateway, who, body)
    root = await taken(gateway, who, request.headers.get("idempotency-key"), body.model_dump_json())
    files = tuple(remote_file(root, i, url, _metadata(body, i, len(urls))) for i, url in enumerate(urls))
    job_id = derived(root, "job")
    command = CreateJob(
        command_id=derived(root, "create"),
        job_id=job_id,
        owner=who.tenancy,
        issued_at=clock.now(),
        job=body.wish(),
        files=files,
    )
    await gateway.publisher.publish(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
    await gateway.limits.handed_in(who.tenant_id, len(files), 0)
    # Taken already; the wait only makes it visible to the caller's next request.
    shown = text("SELECT 1 FROM job_view WHERE id = :i")
    await gateway.decisions.until(lambda c: c.execute(shown, {"i": job_id}).scalar(), gateway.settings.decision_timeout_s)
    return {"job_id": job_id, "file_id": files[0].file_id, "file_ids": [f.file_id for f in files]}


async def taken(gateway: Gateway, who: Principal, key: str | None, body: str) -> str:
    """What the job's ids derive from: new, or that of the idempotency key. 409 for the same key with another body."""
    if not key:
        return clock.new_root()
    if len(key) > 200:
        raise ApiError(400, "Idempotency-Key: at most 200 characters", "Idempotency-Key")
    fingerprint = derived(body, "fingerprint")

    def enter(connection: Connection) -> str:
        values = {"t": who.tenant_id, "k": key, "f": fingerprint, "at": clock.unix()}
        connection.execute(text("DELETE FROM idempotency WHERE created_at < :old"), {"old": clock.unix() - KEPT_S})
        connection.execute(text("INSERT INTO idempotency VALUES (:t, :k, :f, :at) ON CONFLICT DO NOTHING"), values)
        query = text("SELECT fingerprint FROM idempotency WHERE tenant_id = :t AND key = :k")
        return str(connection.execute(query, values).scalar_one())

    if await gateway.store.transact(enter) != fingerprint:
        raise ApiError(409, "Idempotency-Key: the key was used with another body", "Idempotency-Key")
    return derived(who.tenant_id, key, "idempotency")


def container_files(gateway: Gateway, who: Principal, body: JobCreate | RemoteUpload) -> list[str]:
    """Addresses of the files that a request names in a container. Raises `ApiError` naming the field."""
    name = body.container or ""
    container = gateway.containers.get(name)
    if container is None or not container.open_to(who.tenant_id):
        raise ApiError(400, f"container: there is no container {name} for this company", "container")
    if body.source is not None and body.source.lower() != container.source:
        raise ApiError(400, f"source: container {name} is at {container.source}", "source")
    if not body.file_names:
        raise ApiError(400, "file_names: required with container", "file_names")
    try:
        return [container_url(name, path) for path in body.file_names]
    except ValueError as error:
        raise ApiError(400, f"file_names: {error}", "file_names") from None


def remote_file(root: str, index: int, url: str, metadata: Any) -> FileRef:
    """A file that a worker will fetch, by URL or from a container. Raises `ApiError` naming the field."""
    try:
        parts = urlsplit(url)
        name = clean_name(unquote(parts.path))
    except ValueError as error:
        raise ApiError(400, f"urls.{index}: {error}", "urls") from None
    if (parts.scheme not in ("http", "https") or not parts.hostname) and not url.startswith(SCHEME):
        raise ApiError(400, f"urls.{index}: an http or https URL is expected", "urls")
    return FileRef(file_id=derived(root, "file", index), file_name=name or f"file-{index + 1}", url=url, metadata=metadata)


def _metadata(body: RemoteUpload, index: int, count: int) -> Any:
    # An array has one entry per URL; one object for all files comes as `propagate_metadata` or with a single `url`.
    if isinstance(body.metadata, list):
        if len(body.metadata) != count:
            raise ApiError(400, f"metadata: {len(body.metadata)} entries for {count} urls", "metadata")
        found = body.metadata[index]
        return found if isinstance(found, (dict, list, str)) else None
    return body.propagate_metadata if body.propagate_metadata is not None else body.metadata
