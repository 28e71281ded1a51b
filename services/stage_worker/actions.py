"""The built-in actions: bytes in, a typed answer out. Each reads what earlier steps left in `inputs` by key, not by step name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from contracts import FileRef, StageTask, TaskStatus
from services.stage_worker.adapters.documents.fault import DocumentFault
from services.stage_worker.converting import Converting
from services.stage_worker.core.classify import classify
from services.stage_worker.core.fields import extract_fields
from services.stage_worker.core.search_text import normalise
from services.stage_worker.ports import Action, Answer, Calls, DocumentReader, Downloads, Progress, ok
from shared.objects.object_store import Objects

PAGE_BREAK = "\f"


def found(task: StageTask, key: str, default: Any = None) -> Any:
    """The newest value under `key` among the results of earlier steps."""
    for result in reversed(list(task.inputs.values())):
        if key in result:
            return result[key]
    return default


def file_of(task: StageTask) -> FileRef:
    """The task's file. Raises `DocumentFault` when the step runs per job."""
    if task.file is None:
        raise DocumentFault("no_file", f"Action {task.action} works on a file, but step {task.step} runs per job.")
    return task.file


class Actions:
    """Built-in actions over an object store, a sandboxed reader, a downloader, a caller of URLs and what makes files."""

    def __init__(
        self, objects: Objects, reader: DocumentReader, downloads: Downloads, calling: Calls, converting: Converting
    ) -> None:  # fmt: skip
        self.objects = objects
        self.reader = reader
        self.downloads = downloads
        self.calling = calling
        self.converting = converting

    def table(self) -> Mapping[str, Action]:
        """Action name → function."""
        return {
            "noop": self.noop, "file.fetch": self.fetch, "file.identify": self.sandboxed, "file.guard": self.sandboxed,
            "text.extract": self.extract, "text.ocr": self.ocr, "text.classify": self.classify,
            "fields.extract": self.fields, "text.index": self.index, "result.package": self.package,
            "pdf.convert": self.converting.convert, "pdf.merge": self.converting.merge, "pdf.split": self.converting.split,
            "tiff.convert": self.converting.convert, "pdf.extract_xml": self.converting.extract, "http.webhook": self.calling.call,
            "pdf.archive": self.converting.convert, "xml.convert": self.converting.convert, "pdf.sign": self.converting.sign, "pdf.invoice": self.converting.invoice,
        }  # fmt: skip

    async def noop(self, task: StageTask, progress: Progress) -> Answer:
        """Nothing; `config.sleep_s` makes it take time, `config.fail` makes it fail. For benchmarks and tests."""
        if task.config.get("sleep_s"):
            await asyncio.sleep(float(task.config["sleep_s"]))
        if task.config.get("fail"):
            return Answer(TaskStatus(task.config["fail"]), "asked_to_fail", "The step's config asks for this failure.")
        return Answer(TaskStatus.OK)

    async def fetch(self, task: StageTask, progress: Progress) -> Answer:
        """Bring a remote file in; for an uploaded one, see that its bytes are there and are what was uploaded."""
        file = file_of(task)
        if file.url is None:
            await self._bytes(task)
            return ok()
        stored, media_type = await self.downloads.fetch(task.tenant_id, file.url)
        facts = {
            "blob_name": stored.name, "size": stored.size, "sha256": stored.sha256, "md5": stored.md5,
            "content_type": media_type,
        }  # fmt: skip
        return ok(file=facts)

    async def _bytes(self, task: StageTask) -> bytes:
        file = file_of(task)
        blob, sha256 = file.blob_name, file.sha256
        if blob is None:
            raise DocumentFault("object_missing", "The file has no stored content.")
        if not blob.startswith(f"{task.tenant_id}/"):
            raise DocumentFault("object_missing", "The file's content belongs to somebody else.")
        return await self.objects.get_object(blob, sha256)

    async def sandboxed(self, task: StageTask, progress: Progress) -> Answer:
        """An action that is all done inside the child process."""
        config = {**task.config, "kind": found(task, "kind")}
        result = await self.reader.run(task.action, await self._bytes(task), config, task.timeout_s, progress)
        return ok(**result)

    async def extract(self, task: StageTask, progress: Progress) -> Answer:
        """Text by pages; which of them need OCR."""
        config = {**task.config, "kind": found(task, "kind")}
        result = await self.reader.run("text.extract", await self._bytes(task), config, task.timeout_s, progress)
        pages = [str(p) for p in result["pages"]]
        blob = await self._put_text(task, pages)
        characters = sum(map(len, pages))
        return ok(
            text_blob=blob,
            needs_ocr=result["needs_ocr"][:5000],
            properties={"characters": characters, "text_tool": result["tool"]},
        )

    async def _put_text(self, task: StageTask, pages: list[str]) -> str:
        return (await self.objects.put_object(task.tenant_id, PAGE_BREAK.join(pages).encode("utf-8", "replace"))).name

    async def _text(self, task: StageTask) -> str:
        blob = found(task, "text_blob")
        return "" if blob is None else (await self.objects.get_object(blob)).decode("utf-8", "replace")

    async def ocr(self, task: StageTask, progress: Progress) -> Answer:
        """Read the pages that have no text of their own; skipped when there are none or tesseract is not installed."""
        wanted = found(task, "needs_ocr", [])
        if not wanted:
            return Answer(TaskStatus.SKIP, "not_needed", "Every page has text.")
        config = {**task.config, "kind": found(task, "kind"), "pages": wanted}
        try:
            result = await self.reader.run("text.ocr", await self._bytes(task), config, task.timeout_s, progress)
        except DocumentFault as fault:
            if fault.code != "ocr_not_installed":
                raise
            return ok(ocr="not_installed", properties={"ocr": "not_installed"})
        pages = (await self._text(task)).split(PAGE_BREAK)
        for index, text in result["pages"].items():
            pages[int(index)] = text
        properties = {"ocr_pages": len(wanted), "ocr_confidence": result["confidence"], "ocr_tool": result["tool"]}
        return ok(text_blob=await self._put_text(task, pages), properties=properties)

    async def classify(self, task: StageTask, progress: Progress) -> Answer:
        """A tag with its confidence, or none."""
        text = await self._text(task)
        return ok(tag=await asyncio.to_thread(classify, text, task.config.get("rules")))

    async def fields(self, task: StageTask, progress: Progress) -> Answer:
        """Fields with validators."""
        text = await self._text(task)
        return ok(fields=await asyncio.to_thread(extract_fields, text[:500_000]))

    async def index(self, task: StageTask, progress: Progress) -> Answer:
        """The text as the full-text index takes it; the door enters it when the file is done."""
        text = normalise(await self._text(task))
        stored = await self.objects.put_object(task.tenant_id, text.encode("utf-8", "replace"))
        return ok(index_blob=stored.name, properties={"words": len(text.split())})

    async def package(self, task: StageTask, progress: Progress) -> Answer:
        """One JSON with everything known of the file, beside its text."""
        file = file_of(task)
        properties = {k: v for r in task.inputs.values() for k, v in (r.get("properties") or {}).items()}
        document = {
            "file_id": file.file_id, "file_name": file.file_name, "content_type": file.content_type, "size": file.size,
            "sha256": file.sha256, "metadata": file.metadata, "tag": found(task, "tag"), "fields": found(task, "fields", {}),
            "properties": properties, "text_blob": found(task, "text_blob"), "steps": list(task.inputs),
        }  # fmt: skip
        data = json.dumps(document, ensure_ascii=False, indent=1, default=str).encode()
        return ok(result_blob=(await self.objects.put_object(task.tenant_id, data)).name)
