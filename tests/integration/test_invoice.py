"""Invoices that carry their data: Factur-X by what its specification asks for. `test_pdfa.py` has veraPDF judge them as PDF/A-3."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pytest

from services.stage_worker.adapters.documents.invoice import make_invoice
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
