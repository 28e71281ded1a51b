"""Watched folders: documents in `in` are converted. Results go to `out`, failed documents with a log to `failed`.

The operator lists them in a JSON file (`STAGELINE_WATCHED_FOLDERS_FILE`): `{name: {path, tenant, workflow}}`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contracts import CreateJob, FileRef, JobRequest, Tenancy, derived
from contracts.topics import JOB_COMMANDS_TOPIC
from services.ingest.adapters.admission import admit
from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store.reservations import OverLimit, Place, job_place
from services.ingest.core.file_names import plain_name
from services.ingest.dialects.pdftools import folder_files, store
from services.ingest.dialects.pdftools.folder_files import Changed, Facts, OpenFile, Unfit, fitted, write_atomically
from services.ingest.dialects.pdftools.names import DEFAULT_WORKFLOW, STEPS, WORKFLOWS, workflow_named
from services.ingest.dialects.pdftools.options import Options, merge_options
from services.ingest.http.parameters import opened_arguments
from shared import clock
from shared.errors import DeadLetter, Retry, Stop
from shared.objects.object_store import StoredObject, TooLarge

log = logging.getLogger(__name__)
SCAN_S = 1.0
FIRST_S, LONGEST_S = 1.0, 120.0
"""Delay before a file is tried again: doubled each time, since each attempt uploads the whole file."""


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
    """Scans each folder once a second. A document is taken once it is the same in two scans. A fault of one costs that one alone."""

    def __init__(self, gateway: Gateway, watched: dict[str, WatchedFolder], now: Callable[[], float] = time.monotonic) -> None:
        self.gateway = gateway
        self.watched = watched
        self.now = now
        self.seen: dict[Path, Facts] = {}
        self.submitted: set[Path] = set()
        """Taken files that this process has submitted. They leave `taken` when their result is delivered."""
        self.failures: dict[Path, tuple[int, float]] = {}
        """File → attempts that failed, and when the next one is due."""

    async def run(self) -> None:
        """Run until cancelled."""
        while self.watched:
            for name, folder in self.watched.items():
                try:
                    await self.scan(name, folder)
                except OSError as error:
                    log.warning("a watched folder could not be listed, will retry", extra={"folder": name, "reason": str(error)})
            await asyncio.sleep(SCAN_S)

    async def scan(self, name: str, folder: WatchedFolder) -> None:
        """Submit files that an earlier scan, or an earlier process, took; then take those that are complete. Raises `OSError`."""
        places = await asyncio.to_thread(folder_files.prepare, folder.path)
        waiting = [path for path, (_, due) in self.failures.items() if due > self.now()]
        left = await asyncio.to_thread(folder_files.listed, places["taken"], (*self.submitted, *waiting))
        # A process may have died after it took a document. The job's id derives from the document, so nothing is converted twice.
        for path, facts in left.items():
            await self._try(name, folder, places, path, facts)
        found = await asyncio.to_thread(folder_files.listed, places["in"], waiting)
        for path in [path for path, facts in found.items() if self.seen.get(path) == facts]:
            facts = found.pop(path)
            try:
                target = await asyncio.to_thread(folder_files.take, path, places["taken"], facts)
            except OSError as error:
                self._postpone(name, path, error)
                continue
            self.failures.pop(path, None)
            await self._try(name, folder, places, target, facts)
        self.seen = {p: f for p, f in self.seen.items() if p.parent != places["in"]} | found
        await asyncio.to_thread(self._forget_missing)

    def _forget_missing(self) -> None:
        self.submitted = {path for path in self.submitted if os.path.lexists(path)}
        self.failures = {path: failed for path, failed in self.failures.items() if os.path.lexists(path)}

    async def _try(self, name: str, folder: WatchedFolder, places: dict[str, Path], path: Path, facts: Facts) -> None:
        try:
            try:
                await self._submit(name, folder, places, path, facts)
            except (Unfit, TooLarge, DeadLetter, ValueError) as error:
                await self._refuse(places, path, str(error))
                return
        except FileNotFoundError:
            return  # somebody else has moved it
        except (Retry, Changed, OverLimit, OSError) as error:
            self._postpone(name, path, error)
            return
        self.submitted.add(path)
        self.failures.pop(path, None)

    def _postpone(self, name: str, path: Path, error: Exception) -> None:
        count = self.failures.get(path, (0, 0.0))[0] + 1
        delay = min(LONGEST_S, FIRST_S * 2.0 ** min(count - 1, 20))
        self.failures[path] = count, self.now() + delay
        reason = {"folder": name, "file": folder_files.shown_name(path), "reason": str(error), "attempt": count}
        log.warning("a document of a watched folder will be tried again", extra=reason)

    async def _refuse(self, places: dict[str, Path], path: Path, why: str) -> None:
        """Move a document that can never be converted to `failed`, with the reason beside it."""
        original = path.with_name(path.name.partition("-")[2] or path.name)
        log.warning(
            "a document of a watched folder cannot be converted", extra={"file": folder_files.shown_name(path), "reason": why}
        )
        shown = plain_name(folder_files.shown_name(original), "document")
        await write_atomically(places["failed"] / fitted(shown, ".log"), f"{why}\n".encode())
        await asyncio.to_thread(path.replace, places["failed"] / original.name)

    async def _submit(self, name: str, folder: WatchedFolder, places: dict[str, Path], path: Path, facts: Facts) -> None:
        taken = folder_files.readable_name(path)
        shown = plain_name(taken.partition("-")[2], "document")
        target = {"taken": str(path), "out": str(places["out"]), "failed": str(places["failed"]), "name": shown}
        opened = await asyncio.to_thread(OpenFile, path, facts)
        try:
            root = derived(name, taken, opened.facts.size, "watched")
            job_id, file_id = derived(root, "job"), derived(root, "file")
            if await self.gateway.record("job_view", job_id, folder.tenant) is not None:
                return
            reserved = [job_place(job_id), Place(file_id, files=1, bytes=opened.facts.size)]
            async with admit(self.gateway, folder.tenant, reserved) as admission:
                objects = admission.objects(file_id)
                stored = await objects.put_stream(opened.chunks(), self.gateway.settings.max_file_bytes)
                command = await self._command(name, folder, root, shown, stored)
                # Schedule the delivery first: without it nobody would receive the job's result.
                await self.gateway.store.transact(
                    lambda c: store.add_delivery(c, job_id, folder.tenant, "folder", json.dumps(target), clock.unix())
                )
                admission.published = True
                await self.gateway.publisher.publish_command(JOB_COMMANDS_TOPIC.name, command, None)
                admission.accept(file_id)
        finally:
            opened.close()
        self.gateway.delivery_wake.set()

    async def _command(self, name: str, folder: WatchedFolder, root: str, shown: str, stored: StoredObject) -> CreateJob:
        options = await self.gateway.claiming(folder.tenant, derived(root, "job")).put_json(
            {**merge_options(Options(), Options(), {}), "conversion_id": root}
        )
        file = FileRef(
            file_id=derived(root, "file"), file_name=shown, size=stored.size, sha256=stored.sha256, md5=stored.md5,
            blob_name=stored.name,
        )  # fmt: skip
        theirs = workflow_named(folder.workflow)
        ours = WORKFLOWS[theirs] if theirs is not None else folder.workflow
        args = await opened_arguments(self.gateway, ours, {"options_blob": options.name}, STEPS)
        return CreateJob(
            command_id=derived(root, "create"), job_id=derived(root, "job"), issued_at=clock.now(), files=(file,),
            owner=Tenancy(tenant_id=folder.tenant, tenant_name=folder.tenant, user_name=f"folder:{name}"[:200]),
            job=JobRequest(workflow=ours, channel="folder", args=args or None),
        )  # fmt: skip
