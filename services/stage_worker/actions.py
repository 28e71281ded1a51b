"""Built-in actions: a task in, a result out. Each finds the results of earlier steps in `inputs` by key, not by step name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from contracts import FileRef
from services.stage_worker.conversion import Conversion
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.ports import Action, DocumentReader, Downloads, Result, WebhookCalls
from shared.objects.access import ObjectMissing
from shared.objects.object_store import Objects
from stageline_kit import Failed, Skipped, Task, TryAgain


def newest_input(task: Task, key: str, default: Any = None) -> Any:
    """The value under `key` in the latest result of an earlier step that has one."""
    for result in reversed(list(task.inputs.values())):
        if key in result:
            return result[key]
    return default


def file_of(task: Task) -> FileRef:
    """The task's file. Raises `DocumentFault` when the step runs per job."""
    if task.file is None:
        raise DocumentFault("no_file", f"Action {task.action} works on a file, but step {task.step} runs per job.")
    return task.file


def serve_actions(actions: Mapping[str, Action], wanted: Sequence[str]) -> dict[str, Action]:
    """The actions that this worker serves, with their faults as outcomes; all of them when `wanted` is empty."""
    return {name: with_outcomes(action) for name, action in actions.items() if not wanted or name in wanted}


def with_outcomes(action: Action) -> Action:
    """`action` with `DocumentFault` and `ObjectMissing` turned into outcomes of the kit."""

    async def run(task: Task) -> Result:
        try:
            return await action(task)
        except DocumentFault as fault:
            raise (TryAgain if fault.retriable else Failed)(fault.code, str(fault)) from fault
        except ObjectMissing as error:
            raise Failed(error.code, str(error)) from error

    return run


class Actions:
    """Built-in actions over an object store, a sandboxed reader, downloads, webhook calls and conversions."""

    def __init__(
        self, objects: Objects, reader: DocumentReader, downloads: Downloads, webhooks: WebhookCalls, conversion: Conversion
    ) -> None:
        self.objects = objects
        self.reader = reader
        self.downloads = downloads
        self.webhooks = webhooks
        self.conversion = conversion

    def table(self) -> Mapping[str, Action]:
        """Action name → function."""
        made = self.conversion
        return {
            "noop": self.noop, "file.fetch": self.fetch_file, "file.identify": self.run_sandboxed, "file.guard": self.run_sandboxed,
            "text.extract": self.extract_text, "text.ocr": self.recognise_text, "text.classify": self.classify_text,
            "fields.extract": self.extract_fields, "text.index": self.index_text, "result.package": self.package_result,
            "pdf.convert": made.convert_file, "pdf.merge": made.merge_files, "pdf.split": made.split_pages,
            "tiff.convert": made.convert_file, "pdf.extract_xml": made.extract_xml, "http.webhook": self.webhooks.call_url,
            "pdf.archive": made.convert_file, "xml.convert": made.convert_file, "pdf.sign": made.sign_file,
            "pdf.invoice": made.make_invoice,
        }  # fmt: skip

    async def noop(self, task: Task) -> Result:
        """Do nothing. For benchmarks and tests."""
        return None

    async def fetch_file(self, task: Task) -> Result:
        """Download a remote file; for an uploaded one, check that its bytes are those that were uploaded."""
        file = file_of(task)
        if file.url is None:
            await self._read_file(task)
            return None
        stored, media_type = await self.downloads.fetch_file(task.tenant_id, task.job_id, file.url)
        facts = {
            "blob_name": stored.name, "size": stored.size, "sha256": stored.sha256, "md5": stored.md5,
            "content_type": media_type,
        }  # fmt: skip
        return {"file": facts}

    async def _read_file(self, task: Task) -> bytes:
        file = file_of(task)
        blob, sha256 = file.blob_name, file.sha256
        if blob is None:
            raise DocumentFault("object_missing", "The file has no stored content.")
        return await self.objects.of(task.tenant_id, task.job_id).get_object(blob, sha256)

    async def _read_document(self, task: Task) -> dict[str, Any]:
        settings = {**task.config, "kind": newest_input(task, "kind")}
        return await self.reader.run_action(task.action, await self._read_file(task), settings, task.timeout_s, task.progress)

    async def run_sandboxed(self, task: Task) -> Result:
        """Run an action that needs nothing but the document, all of it in the sandbox."""
        return await self._read_document(task)

    async def extract_text(self, task: Task) -> Result:
        """Extract the text of each page, and which pages need OCR."""
        result = await self._read_document(task)
        properties = {"characters": result["characters"], "text_tool": result["tool"]}
        return {
            "text_blob": await self._put_text(task, result["output"]),
            "needs_ocr": result["needs_ocr"],
            "properties": properties,
        }

    async def _put_text(self, task: Task, text: bytes) -> str:
        return (await self.objects.of(task.tenant_id, task.job_id).put_object(text)).name

    async def _read_text(self, task: Task) -> bytes:
        blob = newest_input(task, "text_blob")
        return b"" if blob is None else await self.objects.of(task.tenant_id, task.job_id).get_object(blob)

    async def _judge_text(self, task: Task) -> dict[str, Any]:
        # A hostile text can keep an expression busy, so it is read where it can be stopped.
        return await self.reader.run_action(
            task.action, await self._read_text(task), dict(task.config), task.timeout_s, task.progress
        )

    async def recognise_text(self, task: Task) -> Result:
        """Run OCR on the pages that have no text of their own. Skipped when there are none; the result says when tesseract is missing."""
        wanted = newest_input(task, "needs_ocr", [])
        if not wanted:
            raise Skipped("not_needed", "Every page has text.")
        inputs = [await self._read_file(task), await self._read_text(task)]
        config = {**task.config, "kind": newest_input(task, "kind"), "pages": wanted}
        try:
            result = await self.reader.run_action(task.action, inputs, config, task.timeout_s, task.progress)
        except DocumentFault as fault:
            if fault.code != "ocr_not_installed":
                raise
            return {"ocr": "not_installed", "properties": {"ocr": "not_installed"}}
        properties = {"ocr_pages": len(wanted), "ocr_confidence": result["confidence"], "ocr_tool": result["tool"]}
        return {"text_blob": await self._put_text(task, result["output"]), "properties": properties}

    async def classify_text(self, task: Task) -> Result:
        """Choose a tag with its confidence, or none."""
        return await self._judge_text(task)

    async def extract_fields(self, task: Task) -> Result:
        """Extract fields that their validators accept."""
        return await self._judge_text(task)

    async def index_text(self, task: Task) -> Result:
        """Store the text in the form of the full-text index. The gateway indexes it when the file is done."""
        result = await self._judge_text(task)
        stored = await self.objects.of(task.tenant_id, task.job_id).put_object(result["output"])
        return {"index_blob": stored.name, "properties": {"words": result["words"]}}

    async def package_result(self, task: Task) -> Result:
        """Store one JSON with all that is known of the file."""
        file = file_of(task)
        properties = {k: v for r in task.inputs.values() for k, v in (r.get("properties") or {}).items()}
        document = {
            "file_id": file.file_id, "file_name": file.file_name, "content_type": file.content_type, "size": file.size,
            "sha256": file.sha256, "metadata": file.metadata, "tag": newest_input(task, "tag"),
            "fields": newest_input(task, "fields", {}), "properties": properties,
            "text_blob": newest_input(task, "text_blob"), "steps": list(task.inputs),
        }  # fmt: skip
        data = json.dumps(document, ensure_ascii=False, indent=1, default=str).encode()
        return {"result_blob": (await self.objects.of(task.tenant_id, task.job_id).put_object(data)).name}
