"""A hybrid invoice: PDF/A-3 with the invoice's XML embedded (Factur-X 1.07, identical to ZUGFeRD 2.3), and other attachments."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
from lxml import etree
from pikepdf import Array, AttachedFileSpec, Name
from pikepdf.models.metadata import encode_pdf_date

from services.stage_worker.adapters.documents.archive import make_archive
from services.stage_worker.adapters.documents.pdf import as_properties, open_document
from services.stage_worker.adapters.documents.text import Report
from services.stage_worker.core.document_fault import DocumentFault

CII = "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"
RAM = "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"
_GUIDELINE = f".//{{{RAM}}}GuidelineSpecifiedDocumentContextParameter/{{{RAM}}}ID"
LEVELS = (
    ("urn:factur-x.eu:1p0:minimum", "MINIMUM"), ("urn:factur-x.eu:1p0:basicwl", "BASIC WL"), ("urn:factur-x.eu:1p0:basic", "BASIC"),
    ("urn:factur-x.eu:1p0:extended", "EXTENDED"), ("xrechnung", "XRECHNUNG"), ("urn:cen.eu:en16931:2017", "EN 16931"),
)  # fmt: skip
"""Part of a guideline's name → conformance level; the first match counts (Factur-X §6.2.2)."""
NOT_WHOLE = ("MINIMUM", "BASIC WL")
"""Levels whose XML holds less than the page: relationship `Data`. All others are `Alternative` (§6.2.3)."""
MAX_XML_BYTES = 20 << 20
_SCHEMA = """<rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">
<fx:DocumentType>INVOICE</fx:DocumentType><fx:DocumentFileName>{name}</fx:DocumentFileName>
<fx:Version>1.0</fx:Version><fx:ConformanceLevel>{level}</fx:ConformanceLevel></rdf:Description>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
<pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>fx</pdfaSchema:prefix><pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"""
_PROPERTY = """<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{0}</pdfaProperty:name>
<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>
<pdfaProperty:description>{1}</pdfaProperty:description></rdf:li>"""
_PROPERTIES = "".join(
    _PROPERTY.format(*p)
    for p in (
        ("DocumentFileName", "name of the embedded XML invoice file"), ("DocumentType", "INVOICE"),
        ("Version", "version of the XML data"), ("ConformanceLevel", "conformance level of the XML data"),
    )
)  # fmt: skip


XML_TYPES = ("text/xml", "application/xml")
DATA_ALONE: Mapping[str, Any] = {"media_type": "text/xml"}
"""The attachment of a config that names none: the invoice's XML."""


def make_invoice(path: Path, config: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Write `output`: `input` (`config.kind`: pdf or image) as PDF/A-3 that carries `input-1`, `input-2`, …

    `config.attachments` describes these in their order: `{name, media_type, attached, relationship, description, changed}`. The first
    that is an invoice's XML is its data, and the result's properties hold the level. Raises `unsupported_type`, `password`, `damaged`,
    and `conformance` where XML that is not marked as `attached` is no invoice of a known guideline.
    """
    described = [dict(entry) for entry in config.get("attachments") or [DATA_ALONE]]
    contents = [(path.parent / f"input-{number}").read_bytes() for number in range(1, len(described) + 1)]
    place, level = _find_data(described, contents)
    if place is not None:
        name = "xrechnung.xml" if level == "XRECHNUNG" else "factur-x.xml"
        relationship = "Data" if level in NOT_WHOLE else "Alternative"
        described[place] |= {"name": name, "media_type": "text/xml", "description": "Invoice data", "relationship": relationship}
    document, notes = open_document(path, config, report)

    def carry(made: pikepdf.Pdf) -> str:
        # The data come first: their name is fixed, and another attachment's gives way to it.
        for number in sorted(range(len(described)), key=lambda n: n != place):
            _attach(made, described[number], contents[number])
        made.Root.AF = Array([attached.obj for attached in made.attachments.values()])
        return _SCHEMA.format(name=described[place]["name"], level=level, properties=_PROPERTIES) if place is not None else ""

    with document:
        make_archive(document, path.parent, 3, config, notes, report, carry)
        count = len(document.pages)
    return {
        "properties": {"page_count": count, **({"invoice_level": level} if place is not None else {}), **as_properties(notes)}
    }


def _find_data(described: Sequence[Mapping[str, Any]], contents: Sequence[bytes]) -> tuple[int | None, str]:
    """Place and level of the invoice's data; (None, "") where no XML was meant as such. Raises `conformance`."""
    refused: DocumentFault | None = None
    for place, (entry, content) in enumerate(zip(described, contents, strict=True)):
        if entry["media_type"] not in XML_TYPES:
            continue
        try:
            return place, level_of(content)
        except DocumentFault as fault:
            if not entry.get("attached"):
                refused = refused or fault
    if refused is not None:
        raise refused
    return None, ""


def _attach(made: pikepdf.Pdf, entry: Mapping[str, Any], content: bytes) -> None:
    """Embed a file under a name that no other one has."""
    name = _free_name(str(entry.get("name") or "attachment"), set(made.attachments.keys()))
    now = datetime.now(UTC)
    changed = datetime.fromisoformat(entry["changed"]) if entry.get("changed") else now
    spec = AttachedFileSpec(
        made, content, filename=name, mime_type=str(entry["media_type"]), description=str(entry.get("description") or ""),
        creation_date=encode_pdf_date(now), mod_date=encode_pdf_date(changed),
    )  # fmt: skip
    spec.relationship = Name(f"/{entry.get('relationship') or 'Supplement'}")
    made.attachments[name] = spec


def _free_name(name: str, taken: Collection[str]) -> str:
    """`name`, with a number before its ending where it is taken: `terms.pdf` → `terms-2.pdf`."""
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    tries = itertools.chain([name], (f"{stem}-{number}{ending}" for number in itertools.count(2)))
    return next(candidate for candidate in tries if candidate not in taken)


def level_of(data: bytes) -> str:
    """Conformance level of a Cross Industry Invoice. Raises `conformance`."""
    if len(data) > MAX_XML_BYTES:
        raise DocumentFault("too_large", f"The invoice's XML is larger than {MAX_XML_BYTES >> 20} MiB.")
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except etree.XMLSyntaxError as error:
        raise DocumentFault("conformance", f"The invoice's XML cannot be read: {str(error)[:200]}") from None
    if root.tag != f"{{{CII}}}CrossIndustryInvoice":
        raise DocumentFault("conformance", "The XML is no Cross Industry Invoice (UN/CEFACT D16B), which Factur-X asks for.")
    guideline = (root.findtext(_GUIDELINE) or "").strip().lower()
    level = next((level for part, level in LEVELS if part in guideline), None)
    if level is None:
        raise DocumentFault(
            "conformance", f"The invoice follows no guideline that is known here: {guideline[:200] or 'it names none'}."
        )
    return level
