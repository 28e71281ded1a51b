"""Actions that make files: a PDF, PDF/A, TIFF or XML of each document, one PDF of a job, single pages, embedded XML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from contracts import FileRef
from contracts.work import OutputFile
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.ports import DocumentReader, Result
from shared.objects.object_store import Objects
from stageline_kit import Task

PDF = "application/pdf"
OUTPUT_FORMATS = {
    "pdf.convert": (".pdf", PDF),
    "pdf.archive": (".pdf", PDF),
    "pdf.sign": (".pdf", PDF),
    "tiff.convert": (".tif", "image/tiff"),
    "xml.convert": (".xml", "application/xml"),
}
"""Action → ending and media type of the file that it makes."""
MAX_MERGE_BYTES = 500 << 20
XML_TYPES = ("text/xml", "application/xml")


class Conversion:
    """`pdf.convert`, `pdf.archive`, `pdf.sign`, `tiff.convert`, `xml.convert`, `pdf.split`, `pdf.extract_xml`, `pdf.merge`, `pdf.invoice`.

    Options come in the object that `config.options_blob` names, because passwords must not travel in records:
    `{"job": {option: value}, "documents": {file id: {option: value}}, "passwords": [...],
    "document_passwords": {file id: [...]}, "invalid": "what is wrong with an option's value"}`.
    """

    def __init__(
        self, objects: Objects, reader: DocumentReader, signing: Mapping[str, str], signs_for: Sequence[str] = ()
    ) -> None:
        self.objects = objects
        self.reader = reader
        self.signing = signing
        """`key` (PKCS#12, Base64) and `key_password` of `pdf.sign`; empty without a key."""
        self.signs_for = signs_for
        """Tenants whose documents the key may sign."""

    async def convert_file(self, task: Task) -> Result:
        """Make a PDF, a PDF/A, a TIFF or XML of the file, under its name with another ending."""
        return await self._convert(task, {})

    async def sign_file(self, task: Task) -> Result:
        """Add a signature to the PDF, made with the operator's key."""
        if self.signing and task.tenant_id not in self.signs_for:
            raise DocumentFault(
                "not_configured", "The key to sign with is not this tenant's: STAGELINE_SIGNING_TENANTS names whose it is."
            )
        return await self._convert(task, {"key": None, **self.signing})

    async def make_invoice(self, task: Task) -> Result:
        """Make a PDF/A-3 of the job's one document, with the job's one XML file embedded."""
        files = [entry.file for entry in task.files]
        xml = [f for f in files if f.content_type in XML_TYPES]
        paper = [f for f in files if f.content_type == PDF or str(f.content_type).startswith("image/")]
        if len(xml) != 1 or len(paper) != 1 or len(files) != 2:
            raise DocumentFault("option", "An invoice is made of two files: a PDF or an image, and its data as XML.")
        inputs = [await self.objects.get_object(_own_blob(task, str(f.blob_name)), f.sha256) for f in (paper[0], xml[0])]
        kind = "pdf" if paper[0].content_type == PDF else "image"
        config = {**await self._with_options(task, paper[0]), "kind": kind}
        result = await self.reader.run_action("pdf.invoice", inputs, config, task.timeout_s, task.progress)
        return {"outputs": [await self._store(task, result.pop("output"), _stem(paper[0]) + ".pdf")], **result}

    async def extract_xml(self, task: Task) -> Result:
        """Extract the XML files that the PDF carries, under their own names."""
        result = await self._run_sandboxed(task, await self._with_options(task, _stored_file(task)))
        named = zip(result.pop("names"), result.pop("outputs"), strict=True)
        return {"outputs": [await self._store(task, data, name, "application/xml") for name, data in named], **result}

    async def split_pages(self, task: Task) -> Result:
        """Make a PDF of each page of the file: `name-1.pdf`, `name-2.pdf`, …"""
        result = await self._run_sandboxed(task, dict(task.config))
        stem = _stem(_stored_file(task))[:240]
        pages = [await self._store(task, page, f"{stem}-{n}.pdf") for n, page in enumerate(result.pop("outputs"), 1)]
        return {"outputs": pages, **result}

    async def merge_files(self, task: Task) -> Result:
        """Merge all files of the job into one PDF, in the order they were handed in, named by `config.name`."""
        options = await self._options(task)
        blobs = [output.blob_name for entry in task.files for output in entry.outputs if output.content_type == PDF]
        if not blobs:
            raise DocumentFault("no_file", "There is no PDF to merge.")
        if sum(o.size for entry in task.files for o in entry.outputs) > MAX_MERGE_BYTES:
            raise DocumentFault("too_large", f"The PDFs together are larger than {MAX_MERGE_BYTES >> 20} MiB.")
        inputs = [await self.objects.get_object(_own_blob(task, blob)) for blob in blobs]
        named = options.get("job", {})
        config = {"inputs": len(inputs), "meta": named, "linearize": named.get("PDF.LINEARIZE", False)}
        result = await self.reader.run_action("pdf.merge", inputs, config, task.timeout_s, task.progress)
        name = str(task.config.get("name") or "dossier")
        output = await self._store(task, result.pop("output"), name if name.endswith(".pdf") else f"{name}.pdf")
        return {"outputs": [output], **result}

    async def _convert(self, task: Task, more: Mapping[str, Any]) -> Result:
        ending, media_type = OUTPUT_FORMATS[task.action]
        file = _stored_file(task)
        result = await self._run_sandboxed(task, {**await self._with_options(task, file), **more})
        output = await self._store(task, result.pop("output"), _stem(file) + ending, media_type)
        return {"outputs": [output], **result}

    async def _run_sandboxed(self, task: Task, config: dict[str, Any]) -> dict[str, Any]:
        file = _stored_file(task)
        kind = next((r["kind"] for r in reversed(list(task.inputs.values())) if "kind" in r), None)
        data = await self.objects.get_object(_own_blob(task, str(file.blob_name)), file.sha256)
        return await self.reader.run_action(task.action, data, {**config, "kind": kind}, task.timeout_s, task.progress)

    async def _with_options(self, task: Task, file: FileRef) -> dict[str, Any]:
        options, file_id = await self._options(task), file.file_id
        named = {**options.get("job", {}), **options.get("documents", {}).get(file_id, {})}
        passwords = [*options.get("document_passwords", {}).get(file_id, []), *options.get("passwords", [])]
        return {
            **task.config, "meta": named, "linearize": named.get("PDF.LINEARIZE", False), "passwords": passwords,
            "longest_side": named.get("IMAGE.LONGEST_SIDE"),
        }  # fmt: skip

    async def _options(self, task: Task) -> dict[str, Any]:
        blob = task.config.get("options_blob")
        if blob is None:
            return {}
        found: dict[str, Any] = json.loads(await self.objects.get_object(_own_blob(task, str(blob))))
        if found.get("invalid"):
            raise DocumentFault("option", str(found["invalid"]))
        return found

    async def _store(self, task: Task, data: bytes, name: str, media_type: str = PDF) -> dict[str, Any]:
        stored = await self.objects.put_object(task.tenant_id, data)
        output = OutputFile(
            file_name=name[-255:], blob_name=stored.name, size=stored.size, sha256=stored.sha256, content_type=media_type
        )
        return output.model_dump(exclude_none=True)


def _own_blob(task: Task, blob: str) -> str:
    if not blob.startswith(f"{task.tenant_id}/"):
        raise DocumentFault("object_missing", "The file's content belongs to somebody else.")
    return blob


def _stored_file(task: Task) -> FileRef:
    if task.file is None or task.file.blob_name is None:
        raise DocumentFault("no_file", f"Action {task.action} works on a file that is there, and step {task.step} has none.")
    return task.file


def _stem(file: FileRef) -> str:
    """`scan.tiff` → `scan`."""
    return file.file_name.rpartition(".")[0] or file.file_name
