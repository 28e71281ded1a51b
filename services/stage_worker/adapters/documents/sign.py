"""Signs PDFs (PAdES B-B, ETSI EN 319 142-1) with the operator's key. pyHanko appends the signature; existing bytes stay.

`prepare` reads the document and has no key. `sign_digest` has the key and reads no document: it gets a digest alone. Each runs in a
process of its own.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter, enumerate_sig_fields
from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes

from services.stage_worker.adapters.documents.pdf import open_pdf
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

MAX_FIELDS = 1000
DIGEST = "sha256"


def prepare(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: the PDF with the place of one more signature. Returns `{properties, gap}`, the first and last byte of the place.

    `config`: `kind`, `reserved` (bytes of the place, from `describe_key`), `passwords`, and `reason`, `location`, `contact`.
    A protected PDF is opened with one of the `passwords` and written without. Raises `not_configured`, `unsupported_type`,
    `password`, `damaged`.
    """
    if str(config.get("kind")) != "pdf":
        raise DocumentFault("unsupported_type", "Only PDFs can be signed: convert other documents first.")
    if not config.get("reserved"):
        raise DocumentFault("not_configured", "There is no key to sign with: STAGELINE_SIGNING_KEY_FILE names none.")
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
                field_name=_free_name(writer), md_algorithm=DIGEST, subfilter=SigSeedSubFilter.PADES,
                reason=config.get("reason"), location=config.get("location"), contact_info=config.get("contact"),
            )  # fmt: skip
            absent = signers.ExternalSigner(signing_cert=None, cert_registry=None)
            digesting = signers.PdfSigner(facts, signer=absent).async_digest_doc_for_signing(
                writer, bytes_reserved=int(config["reserved"]), output=outside
            )
            place, _, _ = asyncio.run(digesting)
    except PdfError as error:
        raise DocumentFault("damaged", f"The PDF cannot be signed: {str(error)[:200]}") from None
    gap = [place.reserved_region_start, place.reserved_region_end]
    return {"properties": {"page_count": count, **notes}, "gap": gap}


def describe_key(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Returns `{signed_by, reserved}` of the key in `config` (`key`, `key_password`). Raises `not_configured`."""
    signer = _signer(config)
    size = 2 * len(_signature(signer, bytes(32), dry_run=True))
    return {"signed_by": signer.subject_name, "reserved": size + 2 * (size // 4)}


def sign_digest(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Returns `{signature}` in hexadecimal: a CMS object over `config["digest"]` (SHA-256), made with `key`. Raises `not_configured`."""
    return {"signature": _signature(_signer(config), bytes.fromhex(config["digest"])).hex()}


def _signature(signer: signers.SimpleSigner, digest: bytes, dry_run: bool = False) -> bytes:
    attributes = PdfCMSSignedAttributes(signing_time=datetime.now(UTC))
    signing = signer.async_sign(digest, DIGEST, dry_run=dry_run, use_pades=True, signed_attr_settings=attributes)
    found: bytes = asyncio.run(signing).dump()
    return found


def _signer(config: Mapping[str, Any]) -> signers.SimpleSigner:
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
