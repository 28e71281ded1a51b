"""Signs PDFs (PAdES B-B, ETSI EN 319 142-1) with the operator's key. pyHanko appends the signature; existing bytes stay."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pikepdf
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter, enumerate_sig_fields

from services.stage_worker.adapters.documents.pdf import open_pdf
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

MAX_FIELDS = 1000


def sign(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the PDF with one more signature.

    `config`: `kind`, `key` (PKCS#12, Base64), `key_password`, `passwords`, and `reason`, `location`, `contact` of the signature.
    A protected PDF is opened with one of the `passwords` and written without. Raises `not_configured`, `unsupported_type`,
    `password`, `damaged`.
    """
    if str(config.get("kind")) != "pdf":
        raise DocumentFault("unsupported_type", "Only PDFs can be signed: convert other documents first.")
    signer = _signer(config)
    document, warnings = open_pdf(path, [str(p) for p in config.get("passwords", [])])
    source = path
    with document:
        count = len(document.pages)
        if document.is_encrypted or warnings:
            source = path.parent / "plain.pdf"
            document.save(source, encryption=False, object_stream_mode=pikepdf.ObjectStreamMode.disable)
    notes = {f"warning.{warning['code']}": warning["message"] for warning in warnings}
    try:
        with source.open("rb") as inside, (path.parent / "output").open("w+b") as outside:
            writer = IncrementalPdfFileWriter(inside, strict=False)
            facts = signers.PdfSignatureMetadata(
                field_name=_free_name(writer), md_algorithm="sha256", subfilter=SigSeedSubFilter.PADES,
                reason=config.get("reason"), location=config.get("location"), contact_info=config.get("contact"),
            )  # fmt: skip
            signers.sign_pdf(writer, facts, signer=signer, output=outside)
    except PdfError as error:
        raise DocumentFault("damaged", f"The PDF cannot be signed: {str(error)[:200]}") from None
    return {"properties": {"page_count": count, "signed_by": signer.subject_name, **notes}}


def _signer(config: Mapping[str, Any]) -> signers.SimpleSigner:
    if not config.get("key"):
        raise DocumentFault("not_configured", "There is no key to sign with: STAGELINE_SIGNING_KEY_FILE names none.")
    password = str(config.get("key_password") or "").encode() or None
    try:
        signer: signers.SimpleSigner = signers.SimpleSigner.load_pkcs12_data(
            base64.b64decode(config["key"]), other_certs=[], passphrase=password
        )
    except ValueError:
        reason = "The signing key cannot be opened: its file is no PKCS#12, or its password is wrong."
        raise DocumentFault("not_configured", reason) from None
    return signer


def _free_name(writer: IncrementalPdfFileWriter) -> str:
    taken = {name for name, _, _ in enumerate_sig_fields(writer)}
    return next(name for n in range(1, MAX_FIELDS) if (name := f"Signature{n}") not in taken)
