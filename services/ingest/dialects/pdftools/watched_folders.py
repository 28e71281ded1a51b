"""Watched folders: documents in `in` are converted. Results go to `out`, failed documents with a log to `failed`.

The operator lists them in a JSON file (`STAGELINE_WATCHED_FOLDERS_FILE`): `{name: {path, tenant, workflow}}`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contracts import CreateJob, FileRef, JobRequest, Tenancy, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.gateway import Gateway
from services.ingest.core.file_names import clean_name
from services.ingest.dialects.pdftools import store
from services.ingest.dialects.pdftools.options import DEFAULT_WORKFLOW, STEPS, WORKFLOWS, Options, merge_options
from services.ingest.dialects.pdftools.result_delivery import write_atomically
from shared import clock
from shared.errors import Retry, Stop
from shared.objects.object_store import TooLarge

log = logging.getLogger(__name__)
SCAN_S = 1.0


class WatchedFolder(BaseModel):
    """One watched folder. The service creates `in`, `out`, `failed` and `taken` in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    tenant: str = Field(default="default", min_length=1, max_length=100)
    workflow: str = DEFAULT_WORKFLOW


def read_watched(path: Path | None) -> dict[str, WatchedFolder]:
    """The watched folders of a JSON file, by name; none without a file. Raises `Stop` naming what is wrong."""
    if path is None:
        return {}
    try:
        return TypeAdapter(dict[str, WatchedFolder]).validate_python(json.loads(path.read_text()))
    except (OSError, ValueError, ValidationError) as error:
        raise Stop("watched_folders_file", f"{path}: {error}") from error


class WatchedFolders:
    """Scans each folder once a second. A document is taken once its size and time are the same in two scans."""

    def __init__(self, gateway: Gateway, watched: dict[str, WatchedFolder]) -> None:
        self.gateway = gateway
        self.watched = watched
        self.seen: dict[Path, tuple[int, int]] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        while self.watched:
            for name, folder in self.watched.items():
                try:
                    await self._scan(name, folder)
                except (Retry, OSError) as error:
                    log.warning("scan of a watched folder failed, will retry", extra={"folder": name, "reason": str(error)})
            await asyncio.sleep(SCAN_S)

    async def _scan(self, name: str, folder: WatchedFolder) -> None:
        places = {p: folder.path / p for p in ("in", "taken", "out", "failed")}
        found, left = await asyncio.to_thread(_listed, places)
        # A process may have died after it took a document. The job's id derives from the document, so nothing is converted twice.
        for path in left:
            await self._submit(name, folder, places, path)
        still = {}
        for path, facts in found.items():
            if self.seen.get(path) == facts:
                target = places["taken"] / f"{facts[1]}-{path.name}"
                await asyncio.to_thread(path.replace, target)
                await self._submit(name, folder, places, target)
            else:
                still[path] = facts
        self.seen = {p: f for p, f in self.seen.items() if p.parent != places["in"]} | still

    async def _submit(self, name: str, folder: WatchedFolder, places: dict[str, Path], path: Path) -> None:
        stat = await asyncio.to_thread(path.stat)
        root = derived(name, path.name, stat.st_size, "watched")
        job_id = derived(root, "job")
        if await self.gateway.record("job_view", job_id, folder.tenant) is not None:
            return
        shown = clean_name(path.name.partition("-")[2]) or "document"
        try:
            stored = await self.gateway.objects.put_stream(folder.tenant, _bytes(path), self.gateway.settings.max_file_bytes)
        except TooLarge as error:
            await write_atomically(places["failed"] / f"{shown}.log", str(error).encode())
            await asyncio.to_thread(path.replace, places["failed"] / shown)
            return
        options = await self.gateway.objects.put_json(
            folder.tenant, {**merge_options(Options(), Options(), {}), "conversion_id": root}
        )
        file = FileRef(
            file_id=derived(root, "file"),
            file_name=shown,
            size=stored.size,
            sha256=stored.sha256,
            md5=stored.md5,
            blob_name=stored.name,
        )
        config = {"options_blob": options.name}
        command = CreateJob(
            command_id=derived(root, "create"), job_id=job_id, issued_at=clock.now(), files=(file,),
            owner=Tenancy(tenant_id=folder.tenant, tenant_name=folder.tenant, user_name=f"folder:{name}"[:200]),
            job=JobRequest(
                workflow=WORKFLOWS.get(folder.workflow, folder.workflow), channel="folder", args=dict.fromkeys(STEPS, config)
            ),
        )  # fmt: skip
        target = {"taken": str(path), "out": str(places["out"]), "failed": str(places["failed"]), "name": shown}
        # Schedule the delivery first: without it nobody would receive the job's result.
        await self.gateway.store.transact(
            lambda c: store.add_delivery(c, job_id, folder.tenant, "folder", json.dumps(target), clock.unix())
        )
        await self.gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, None)
        self.gateway.delivery_wake.set()


def _listed(places: dict[str, Path]) -> tuple[dict[Path, tuple[int, int]], list[Path]]:
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    found: dict[Path, tuple[int, int]] = {}
    for path in sorted(places["in"].iterdir())[:200]:
        # Symbolic links are skipped: they may lead out of the folder.
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            stat = path.stat()
            found[path] = stat.st_size, stat.st_mtime_ns
    return found, [p for p in sorted(places["taken"].iterdir())[:200] if p.is_file() and not p.is_symlink()]


async def _bytes(path: Path) -> AsyncIterator[bytes]:
    stream = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(stream.read, 1 << 20):
            yield chunk
    finally:
        stream.close()
