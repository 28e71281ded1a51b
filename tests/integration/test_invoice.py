"""Invoices that carry their data: Factur-X by what its specification asks for. `test_pdfa.py` has veraPDF judge them as PDF/A-3."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from contracts import FileRef
from services.stage_worker.adapters.documents.invoice import make_invoice
from services.stage_worker.conversion import paper_of
from services.stage_worker.core.document_fault import DocumentFault
from tests.conftest import SAMPLES
from tests.unit.test_pdf import put, quiet

INVOICE = """<rsm:CrossIndustryInvoice xmlns:rsm="urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"
 xmlns:ram="urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"><rsm:ExchangedDocumentContext>
<ram:GuidelineSpecifiedDocumentContextParameter><ram:ID>{}</ram:ID></ram:GuidelineSpecifiedDocumentContextParameter>
</rsm:ExchangedDocumentContext></rsm:CrossIndustryInvoice>"""


GUIDELINES = [
    ("urn:cen.eu:en16931:2017", "EN 16931", "/Alternative", "factur-x.xml"),
    ("urn:factur-x.eu:1p0:minimum", "MINIMUM", "/Data", "factur-x.xml"),
    ("urn:cen.eu:en16931:2017#compliant#urn:factur-x.eu:1p0:basic", "BASIC", "/Alternative", "factur-x.xml"),
    ("urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0", "XRECHNUNG", "/Alternative", "xrechnung.xml"),
]


@pytest.mark.parametrize(("guideline", "level", "relation", "name"), GUIDELINES)
def test_an_invoice_carries_its_data(guideline: str, level: str, relation: str, name: str, tmp_path: Path) -> None:
    path = put(tmp_path, (SAMPLES / "invoice-globex-117.pdf").read_bytes())
    put(tmp_path, INVOICE.format(guideline).encode(), "input-1")
    assert make_invoice(path, {"kind": "pdf"}, quiet)["properties"]["invoice_level"] == level
    with pikepdf.open(tmp_path / "output") as made:
        assert list(made.attachments) == [name] and str(made.Root.AF[0].AFRelationship) == relation
        assert made.attachments[name].get_file().read_bytes() == INVOICE.format(guideline).encode()
        assert f"<fx:ConformanceLevel>{level}</fx:ConformanceLevel>".encode() in made.Root.Metadata.read_bytes()


@pytest.mark.parametrize(
    "xml",
    [b"<CrossIndustryInvoice/>", INVOICE.format("urn:unknown").encode(), b"<a", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"],
)
def test_data_that_are_not_an_invoice_are_refused(xml: bytes, tmp_path: Path) -> None:
    path = put(tmp_path, (SAMPLES / "invoice-globex-117.pdf").read_bytes())
    put(tmp_path, xml, "input-1")
    with pytest.raises(DocumentFault) as refused:
        make_invoice(path, {"kind": "pdf"}, quiet)
    assert refused.value.code == "conformance"


PAPER = SAMPLES / "invoice-globex-117.pdf"
DATA = INVOICE.format("urn:cen.eu:en16931:2017").encode()


def made_with(work: Path, *attachments: tuple[bytes, dict[str, Any]]) -> tuple[dict[str, Any], bytes]:
    """Properties and bytes of the invoice with these attachments: content, and what is said about it."""
    path = put(work, PAPER.read_bytes())
    for number, (content, _) in enumerate(attachments, 1):
        put(work, content, f"input-{number}")
    config = {"kind": "pdf", "attachments": [{"media_type": "text/xml", **said} for _, said in attachments]}
    found: dict[str, Any] = make_invoice(path, config, quiet)["properties"]
    return found, (work / "output").read_bytes()


def carried(pdf: bytes) -> dict[str, tuple[bytes, str, str, str]]:
    """Name → content, media type, relationship and description of what a PDF carries."""
    with pikepdf.open(io.BytesIO(pdf)) as made:
        files = {name: (spec, spec.get_file()) for name, spec in made.attachments.items()}
        return {n: (f.read_bytes(), f.mime_type, str(s.relationship), s.description) for n, (s, f) in files.items()}


def test_the_paper_of_an_invoice() -> None:
    kinds = {"x": "text/xml", "a": "application/pdf", "b": "image/png", "c": "application/pdf"}
    files = [FileRef(file_id=name, file_name=name, content_type=kind) for name, kind in kinds.items()]

    def paper(**roles: str) -> str | None:
        found = paper_of(files, {"documents": {name: {"DOC.ROLE": role} for name, role in roles.items()}})
        return found.file_id if found else None

    assert (paper(), paper(a="attached"), paper(b="main"), paper(x="main"), paper(c="main", a="attached")) == (
        "a",
        "b",
        "b",
        "a",
        "c",
    )
    assert paper(a="attached", b="attached", c="attached") is None


def test_further_files_are_attached(tmp_path: Path) -> None:
    terms, sheet = b"%PDF-1.7 terms", b"a;b"
    about = {"media_type": "text/csv", "relationship": "Source", "description": "Hours", "changed": "2026-11-30T08:00:00+01:00"}
    properties, pdf = made_with(
        tmp_path, (terms, {"name": "terms.pdf", "media_type": "application/pdf"}), (DATA, {"name": "x.xml"}),
        (sheet, {"name": "hours.csv", **about}), (b"2", {"name": "terms.pdf", "media_type": "application/pdf"}),
        (b"<note/>", {"name": "factur-x.xml", "attached": True}),
    )  # fmt: skip
    assert properties["invoice_level"] == "EN 16931"
    assert carried(pdf) == {
        "factur-x.xml": (DATA, "text/xml", "/Alternative", "Invoice data"), "terms.pdf": (terms, "application/pdf", "/Supplement", ""),
        "hours.csv": (sheet, "text/csv", "/Source", "Hours"), "terms-2.pdf": (b"2", "application/pdf", "/Supplement", ""),
        "factur-x-2.xml": (b"<note/>", "text/xml", "/Supplement", ""),
    }  # fmt: skip
    with pikepdf.open(io.BytesIO(pdf)) as made:
        assert len(made.Root.AF) == 5 and str(made.attachments["hours.csv"].get_file().mod_date).startswith("2026-11-30 08:00:00")


def test_an_invoice_without_data_has_its_attachments(tmp_path: Path) -> None:
    properties, pdf = made_with(tmp_path, (b"<note/>", {"name": "n.xml", "attached": True}))
    assert "invoice_level" not in properties and carried(pdf) == {"n.xml": (b"<note/>", "text/xml", "/Supplement", "")}
    with pikepdf.open(io.BytesIO(pdf)) as made, made.open_metadata() as metadata:
        assert metadata.pdfa_status == "3B" and b"ConformanceLevel" not in made.Root.Metadata.read_bytes()


def test_xml_that_nobody_marked_as_attached_must_be_an_invoice(tmp_path: Path) -> None:
    with pytest.raises(DocumentFault) as refused:
        made_with(tmp_path, (b"<note/>", {"name": "n.xml"}))
    assert refused.value.code == "conformance"
    assert made_with(tmp_path, (b"<note/>", {"name": "n.xml"}), (DATA, {"name": "d.xml"}))[0]["invoice_level"] == "EN 16931"
