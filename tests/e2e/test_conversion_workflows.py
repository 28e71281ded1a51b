"""The Conversion Service's workflows beside its two most used ones."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from cli.client import Client
from tests.conftest import SAMPLES
from tests.e2e.conversion_client import Conversion
from tests.unit.test_pdf import carrying, pages_of, protected

pytestmark = pytest.mark.kafka
NDA, SCAN = (SAMPLES / "contract-nda.pdf").read_bytes(), (SAMPLES / "scan-receipt.png").read_bytes()


@pytest.fixture
async def conversion(client: Client) -> AsyncIterator[Conversion]:
    async with Conversion(client.target.url) as made:
        yield made


async def test_an_archive_of_tiffs(conversion: Conversion) -> None:
    job_id = await conversion.create(("META.SUBJECT", "none"), ("DOC.PASSWORD", "secret"), workflow="Archive as TIFF")
    await conversion.add(job_id, "locked.pdf", protected("secret"))
    await conversion.add(job_id, "receipt.png", SCAN)
    result = await conversion.start(job_id)
    assert result["status"] == "warning" and {e["code"] for e in result["events"]} == {"MetadataRemoved"}, result
    assert sorted(d["fileName"] for d in result["dataList"]) == ["locked.tif", "receipt.tif"]
    for datum in result["dataList"]:
        body = (await conversion.call("GET", f"/jobs/{job_id}/result/{datum['resultId']}"))[1]
        with Image.open(io.BytesIO(body)) as picture:
            assert picture.format == "TIFF" and picture.n_frames == (pages_of(NDA) if datum["fileName"] == "locked.tif" else 1)  # type: ignore[attr-defined]


async def test_the_xml_of_an_invoice(conversion: Conversion) -> None:
    job_id = await conversion.create(workflow="Extract XML from PDF")
    await conversion.add(job_id, "invoice.pdf", carrying(factur_x__xml=b"<CrossIndustryInvoice/>", note__txt=b"no"))
    result = await conversion.start(job_id)
    assert result["status"] == "success" and [d["fileName"] for d in result["dataList"]] == ["factur_x.xml"], result
    assert (await conversion.call("GET", f"/jobs/{job_id}/result/1"))[1] == b"<CrossIndustryInvoice/>"
    bare = await conversion.create(workflow="Extract XML from PDF")
    await conversion.add(bare, "contract.pdf", NDA)
    result = await conversion.start(bare)
    assert (
        result["status"] == "error" and result["error"]["code"] == "generic" and "no embedded XML" in result["error"]["message"]
    )
