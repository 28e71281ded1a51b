"""Jobs from remote files, without a session; an idempotency key makes one job at most."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from contracts import CreateJob, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.admission import admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.reservations import REMOTE_HOLD_S, job_place
from services.ingest.dialects.alfred.bodies import JobCreate, RemoteUpload
from services.ingest.http.errors import ApiError
from services.ingest.http.idempotency import keyed_root, root_of
from services.ingest.http.known_workflows import require_workflow
from services.ingest.http.remote_files import remote_file, remote_places
from shared import clock
from shared.objects.containers import container_url
from shared.web.api_keys import Principal
from shared.web.middleware import trace_of


async def submit_remote(request: Request, gateway: Gateway, who: Principal, body: RemoteUpload) -> dict[str, Any]:
    """Publish a `CreateJob` for the remote files and wait (bounded) until the job shows. Returns the ids of the job and its
    files."""
    urls = body.urls if body.urls is not None else [body.url] if body.url else []
    if bool(urls) == bool(body.container):
        raise ApiError(400, "url: one of url, urls and container with file_names is required", "url")
    urls = urls or container_files(gateway, who, body)
    job, key = body.job_request(), request.headers.get("idempotency-key")
    await require_workflow(gateway, who, job.workflow, job.workflow_version, derived(root_of(who, key), "job") if key else None)
    root = await keyed_root(gateway, who, key, body.model_dump_json())
    files = tuple(remote_file(root, i, url, _metadata(body, i, len(urls))) for i, url in enumerate(urls))
    job_id = derived(root, "job")
    command = CreateJob(
        command_id=derived(root, "create"),
        job_id=job_id,
        owner=who.tenancy,
        issued_at=clock.now(),
        job=job,
        files=files,
    )
    places = [job_place(job_id), *remote_places(gateway, files)]
    # The job is accepted once its command is published. The wait makes it visible to the caller's next request.
    shown = gateway.decisions.wait("create", repeated=True)
    shown.on_job(job_id, lambda record: record)
    async with admit(gateway, who.tenant_id, places, REMOTE_HOLD_S) as admission:
        with gateway.pending.hold(who.tenant_id), shown:
            admission.published = True
            await gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, trace_of(request))
            await shown.result(gateway.settings.decision_timeout_s)
    return {"job_id": job_id, "file_id": files[0].file_id, "file_ids": [f.file_id for f in files]}


def container_files(gateway: Gateway, who: Principal, body: JobCreate | RemoteUpload) -> list[str]:
    """URLs of the container's files that a request names. Raises 400 naming the field."""
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


def _metadata(body: RemoteUpload, index: int, count: int) -> Any:
    """Metadata of one file: its entry of a list, or one object for all files (`propagate_metadata`), or the object beside a `url`.

    `propagate_metadata: false` leaves the object to the job when there are several files.
    """
    if isinstance(body.metadata, list):
        if len(body.metadata) != count:
            raise ApiError(400, f"metadata: {len(body.metadata)} entries for {count} urls", "metadata")
        found = body.metadata[index]
        return found if isinstance(found, (dict, list, str)) else None
    given = body.for_each_file()
    if given is not None:
        return given or None
    return None if body.propagate_metadata is False and count > 1 else body.metadata
