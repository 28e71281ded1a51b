"""Actions that make files: a PDF, PDF/A, TIFF or XML of each document, one PDF of a job, single pages, embedded XML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from contracts import FileRef
from contracts.work import OutputFile
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.core.signature_gap import digest_around, fill_gap
from services.stage_worker.ports import DocumentReader, Result
from shared.objects.object_store import Objects
from stageline_kit import Task

PDF = "application/pdf"
OUTPUT_FORMATS = {
    "pdf.convert": (".pdf", PDF),
    "pdf.archive": (".pdf", PDF),
    "tiff.convert": (".tif", "image/tiff"),
    "xml.convert": (".xml", "application/xml"),
}
"""Action → ending and media type of the file that it makes."""
MAX_MERGE_BYTES = 500 << 20
MAX_ATTACHMENTS = 100


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
        self._described: dict[str, Any] | None = None

    async def convert_file(self, task: Task) -> Result:
        """Make a PDF, a PDF/A, a TIFF or XML of the file, under its name with another ending."""
        ending, media_type = OUTPUT_FORMATS[task.action]
        file = _stored_file(task)
        result = await self._run_sandboxed(task, await self._with_options(task, file))
        output = await self._store(task, result.pop("output"), _stem(file) + ending, media_type)
        return {"outputs": [output], **result}

    async def sign_file(self, task: Task) -> Result:
        """Add a signature to the PDF, made with the operator's key. The process that reads the PDF has no key; another signs the digest."""
        if self.signing and task.tenant_id not in self.signs_for:
            raise DocumentFault(
                "not_configured", "The key to sign with is not this tenant's: STAGELINE_SIGNING_TENANTS names whose it is."
            )
        described = await self._describe_key(task)
        file = _stored_file(task)
        config = {**await self._with_options(task, file), "reserved": described.get("reserved")}
        result = await self._run_sandboxed(task, config)
        data, gap = result.pop("output"), result.pop("gap")
        asked = {**self.signing, "digest": digest_around(data, gap)}
        made = await self.reader.run_action("sign.digest", b"", asked, task.timeout_s, task.progress)
        output = await self._store(task, fill_gap(data, gap, made["signature"]), _stem(file) + ".pdf")
        properties = {**result["properties"], "signed_by": described["signed_by"]}
        return {"outputs": [output], "properties": properties}

    async def _describe_key(self, task: Task) -> dict[str, Any]:
        """`signed_by` and `reserved` of the operator's key, read once by a process that reads no document; empty without a key."""
        if self.signing and self._described is None:
            self._described = await self.reader.run_action(
                "sign.describe", b"", dict(self.signing), task.timeout_s, task.progress
            )
        return self._described or {}

    async def make_invoice(self, task: Task) -> Result:
        """Make a PDF/A-3 of the job's paper, a PDF or an image; all its other files are attached, its data as XML among them.

        `AF.*` describe an attachment.
        """
        options = await self._options(task)
        files = [entry.file for entry in task.files]
        paper = paper_of(files, options)
        if paper is None or len(files) < 2:
            text = "An invoice is made of at least two files: a PDF or an image, and what is attached to it, such as its data as XML."
            raise DocumentFault("option", text)
        others = [f for f in files if f is not paper]
        if len(others) > MAX_ATTACHMENTS or sum(f.size or 0 for f in files) > MAX_MERGE_BYTES:
            limits = f"at most {MAX_ATTACHMENTS} attachments, and {MAX_MERGE_BYTES >> 20} MiB together"
            raise DocumentFault("too_large", f"An invoice has {limits}.")
        objects = self.objects.of(task.tenant_id, task.job_id)
        inputs = [await objects.get_object(str(f.blob_name), f.sha256) for f in (paper, *others)]
        kind = "pdf" if paper.content_type == PDF else "image"
        attached = [_attachment(f, _named(options, f.file_id)) for f in others]
        config = {**await self._with_options(task, paper), "kind": kind, "attachments": attached}
        result = await self.reader.run_action("pdf.invoice", inputs, config, task.timeout_s, task.progress)
        return {"outputs": [await self._store(task, result.pop("output"), _stem(paper) + ".pdf")], **result}

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
        inputs = [await self.objects.of(task.tenant_id, task.job_id).get_object(blob) for blob in blobs]
        named = options.get("job", {})
        config = {"inputs": len(inputs), "meta": named, "linearize": named.get("PDF.LINEARIZE", False)}
        result = await self.reader.run_action("pdf.merge", inputs, config, task.timeout_s, task.progress)
        name = str(task.config.get("name") or "dossier")
        output = await self._store(task, result.pop("output"), name if name.endswith(".pdf") else f"{name}.pdf")
        return {"outputs": [output], **result}

    async def _run_sandboxed(self, task: Task, config: dict[str, Any]) -> dict[str, Any]:
        file = _stored_file(task)
        kind = next((r["kind"] for r in reversed(list(task.inputs.values())) if "kind" in r), None)
        data = await self.objects.of(task.tenant_id, task.job_id).get_object(str(file.blob_name), file.sha256)
        return await self.reader.run_action(task.action, data, {**config, "kind": kind}, task.timeout_s, task.progress)

    async def _with_options(self, task: Task, file: FileRef) -> dict[str, Any]:
        options, file_id = await self._options(task), file.file_id
        named = _named(options, file_id)
        passwords = [*options.get("document_passwords", {}).get(file_id, []), *options.get("passwords", [])]
        return {
            **task.config, "meta": named, "linearize": named.get("PDF.LINEARIZE", False), "passwords": passwords,
            "longest_side": named.get("IMAGE.LONGEST_SIDE"),
        }  # fmt: skip

    async def _options(self, task: Task) -> dict[str, Any]:
        blob = task.config.get("options_blob")
        if blob is None:
            return {}
        found: dict[str, Any] = json.loads(await self.objects.of(task.tenant_id, task.job_id).get_object(str(blob)))
        if found.get("invalid"):
            raise DocumentFault("option", str(found["invalid"]))
        return found

    async def _store(self, task: Task, data: bytes, name: str, media_type: str = PDF) -> dict[str, Any]:
        stored = await self.objects.of(task.tenant_id, task.job_id).put_object(data)
        output = OutputFile(
            file_name=name[-255:], blob_name=stored.name, size=stored.size, sha256=stored.sha256, content_type=media_type
        )
        return output.model_dump(exclude_none=True)


def _stored_file(task: Task) -> FileRef:
    if task.file is None or task.file.blob_name is None:
        raise DocumentFault("no_file", f"Action {task.action} works on a file that is there, and step {task.step} has none.")
    return task.file


def _named(options: Mapping[str, Any], file_id: str) -> dict[str, Any]:
    """Options of a document: its own override the job's."""
    return {**options.get("job", {}), **options.get("documents", {}).get(file_id, {})}


def paper_of(files: Sequence[FileRef], options: Mapping[str, Any]) -> FileRef | None:
    """The PDF or image that an invoice is made of: the first whose `DOC.ROLE` is `main`, else the first that is not `attached`."""
    papers = [f for f in files if f.content_type == PDF or str(f.content_type).startswith("image/")]
    roles = [_named(options, f.file_id).get("DOC.ROLE", "") for f in papers]
    return next((papers[roles.index(role)] for role in ("main", "") if role in roles), None)


def _attachment(file: FileRef, named: Mapping[str, Any]) -> dict[str, Any]:
    """What the sandbox writes about an attached file."""
    return {
        "name": file.file_name, "media_type": file.content_type, "attached": named.get("DOC.ROLE") == "attached",
        "relationship": named.get("AF.RELATIONSHIP"), "description": named.get("AF.DESCRIPTION"), "changed": named.get("AF.MODDATE"),
    }  # fmt: skip


def _stem(file: FileRef) -> str:
    """`scan.tiff` → `scan`."""
    return file.file_name.rpartition(".")[0] or file.file_name
