"""Further workflows of the Conversion Service."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from cli.client import Client
from tests.conftest import SAMPLES
from tests.e2e.conversion_client import Conversion
from tests.integration.test_invoice import INVOICE
from tests.pipelines import RestartablePipeline
from tests.unit.test_pdf import carrying, pages_of, protected
from tests.unit.test_sign import key_file, valid
from tests.verapdf import faults

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


async def archived(conversion: Conversion, part: int) -> dict[str, bytes]:
    """Name → content of a locked PDF and a scan, archived by the workflow of that part of PDF/A."""
    job_id = await conversion.create(("DOC.PASSWORD", "secret"), ("META.TITLE", "For ever"), workflow=f"Archive as PDF/A-{part}")
    await conversion.add(job_id, "locked.pdf", protected("secret"))
    await conversion.add(job_id, "receipt.png", SCAN)
    result = await conversion.start(job_id)
    assert result["status"] == "success", result
    return {
        datum["fileName"]: (await conversion.call("GET", f"/jobs/{job_id}/result/{datum['resultId']}"))[1]
        for datum in result["dataList"]
    }


async def invoiced(conversion: Conversion) -> bytes:
    """An invoice made of a PDF and its data."""
    xml = INVOICE.format("urn:cen.eu:en16931:2017").encode()
    job_id = await conversion.create(workflow="Prepare Invoice PDF")
    await conversion.add(job_id, "invoice.pdf", (SAMPLES / "invoice-globex-117.pdf").read_bytes())
    await conversion.add(job_id, "invoice.xml", b'<?xml version="1.0" encoding="UTF-8"?>' + xml)
    result = await conversion.start(job_id)
    assert [d["fileName"] for d in result["dataList"]] == ["invoice.pdf"], result
    body: bytes = (await conversion.call("GET", f"/jobs/{job_id}/result/1"))[1]
    return body


def claimed(pdf: bytes) -> str:
    """The flavour of PDF/A that a document claims to be, in capitals: `2B`."""
    with pikepdf.open(io.BytesIO(pdf)) as made, made.open_metadata() as metadata:
        return str(metadata.pdfa_status)


@pytest.mark.parametrize("part", [1, 2, 3])
async def test_an_archive_of_pdfs(part: int, conversion: Conversion) -> None:
    made = await archived(conversion, part)
    assert sorted(made) == ["locked.pdf", "receipt.pdf"] and set(map(claimed, made.values())) == {f"{part}B"}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_vera_pdf_finds_nothing_against_what_the_workflows_make(conversion: Conversion, tmp_path: Path) -> None:
    files = {tmp_path / "invoice.pdf": "3b"}
    (tmp_path / "invoice.pdf").write_bytes(await invoiced(conversion))
    for part in (1, 2, 3):
        for name, body in (await archived(conversion, part)).items():
            path = tmp_path / f"{part}b {name}"
            path.write_bytes(body)
            files[path] = f"{part}b"
    assert len(files) == 7 and await asyncio.to_thread(faults, files) == {}


async def test_an_invoice_is_made_of_paper_and_data(conversion: Conversion) -> None:
    body = await invoiced(conversion)
    with pikepdf.open(io.BytesIO(body)) as made:
        assert list(made.attachments) == ["factur-x.xml"] and claimed(body) == "3B"
    alone = await conversion.create(workflow="Prepare Invoice PDF")
    await conversion.add(alone, "invoice.pdf", NDA)
    result = await conversion.start(alone)
    assert result["status"] == "error" and result["error"]["code"] == "option" and "two files" in result["error"]["message"], (
        result
    )
    wrong = await conversion.create(workflow="Prepare Invoice PDF")
    await conversion.add(wrong, "invoice.pdf", NDA)
    await conversion.add(wrong, "other.xml", b'<?xml version="1.0"?><other/>')
    result = await conversion.start(wrong)
    assert result["status"] == "error" and result["error"]["code"] == "conformance", result


async def test_further_files_of_an_invoice_are_attached(conversion: Conversion) -> None:
    job_id = await conversion.create(workflow="Invoice")
    terms = ("DOC.ROLE", "attached"), ("AF.RELATIONSHIP", "supplement"), ("AF.DESCRIPTION", "Terms")
    await conversion.add(job_id, "terms.pdf", NDA, *terms)
    await conversion.add(job_id, "invoice.pdf", (SAMPLES / "invoice-globex-117.pdf").read_bytes())
    xml = INVOICE.format("urn:cen.eu:en16931:2017").encode()
    await conversion.add(job_id, "invoice.xml", b'<?xml version="1.0" encoding="UTF-8"?>' + xml)
    await conversion.add(job_id, "letter.docx", (SAMPLES / "letter-offer.docx").read_bytes())
    result = await conversion.start(job_id)
    assert [d["fileName"] for d in result["dataList"]] == ["invoice.pdf"], result
    with pikepdf.open(io.BytesIO((await conversion.call("GET", f"/jobs/{job_id}/result/1"))[1])) as made:
        assert sorted(made.attachments) == ["factur-x.xml", "letter.docx", "terms.pdf"]
        assert (
            made.attachments["terms.pdf"].description == "Terms" and made.attachments["terms.pdf"].get_file().read_bytes() == NDA
        )


async def test_signing_without_a_key_is_an_error(conversion: Conversion) -> None:
    job_id = await conversion.create(workflow="Sign PDF")
    await conversion.add(job_id, "contract.pdf", NDA)
    result = await conversion.start(job_id)
    assert result["status"] == "error" and result["error"]["code"] == "configuration", result
    assert "STAGELINE_SIGNING_KEY_FILE" in result["error"]["message"]


@pytest.mark.parametrize("connection", ["default", "print-optimization", "web-optimization", "email-optimization"])
async def test_the_archive_s_own_connections(connection: str, conversion: Conversion) -> None:
    picture = io.BytesIO()
    Image.linear_gradient("L").resize((3000, 1500)).save(picture, "PNG", dpi=(300, 300))
    url = f"{conversion.base}/http.input/archive-pdfa2-{connection}"
    async with conversion.http.post(url, data=io.BytesIO(picture.getvalue()), headers={"Content-Type": "image/png"}) as answer:
        assert answer.status == 200, await answer.text()
        body = await answer.read()
    with pikepdf.open(io.BytesIO(body)) as made:
        [image] = made.pages[0].get_images().values()
        assert made.is_linearized == (connection == "web-optimization")
        assert int(image.Width) == {"web-optimization": 2400, "email-optimization": 1600}.get(connection, 3000)


async def test_profiles_of_a_workflow_with_a_slash_in_its_name(client: Client) -> None:
    async with Conversion(client.target.url, authorization=f"Bearer {client.target.key}") as conversion:
        await profile_with_a_slash(conversion, client)


async def profile_with_a_slash(conversion: Conversion, client: Client) -> None:
    body = {"options": [{"name": "IMAGE.LONGEST_SIDE", "value": "500"}]}
    await client.call("PUT", "/v1/conversion/profiles/Archive as PDF/A-1/Thumbs", json=body)
    listed = {w["name"]: [p["name"] for p in w["profiles"]] for w in (await conversion.call("GET", "/workflows"))[1]}
    assert "Thumbs" in listed["Archive as PDF/A-1"]
    assert listed["Archive as PDF/A-2"] == ["Default", "Email Optimization", "Print Optimization", "Web Optimization"]
    job_id = await conversion.create(workflow="Archive as PDF/A-1", profile="Thumbs")
    await conversion.add(job_id, "receipt.png", SCAN)
    result = await conversion.start(job_id)
    assert result["status"] == "success", result
    with pikepdf.open(io.BytesIO((await conversion.call("GET", f"/jobs/{job_id}/result/1"))[1])) as made:
        assert max(int(i.Width) for i in made.pages[0].get_images().values()) <= 500


async def test_a_contract_is_signed(restartable: RestartablePipeline, tmp_path: Path) -> None:
    data, certificate = key_file("open")
    (tmp_path / "key.p12").write_bytes(data)
    (tmp_path / "word").write_text("open")
    settings = {
        "STAGELINE_SIGNING_KEY_FILE": str(tmp_path / "key.p12"),
        "STAGELINE_SIGNING_PASSWORD_FILE": str(tmp_path / "word"),
    }
    await asyncio.to_thread(restartable.restart, **settings)
    target = restartable.target()
    # The key signs for the tenant `default`; callers without a key are another.
    async with Conversion(target.url, authorization=f"Bearer {target.key}") as conversion:
        job_id = await conversion.create(workflow="Sign PDF")
        await conversion.add(job_id, "contract.pdf", NDA)
        result = await conversion.start(job_id)
        assert result["status"] == "success", result
        signed = (await conversion.call("GET", f"/jobs/{job_id}/result/1"))[1]
    assert await asyncio.to_thread(valid, signed, certificate) == [True]


async def test_text_as_xml(conversion: Conversion) -> None:
    job_id = await conversion.create(("DOC.PASSWORD", "secret"), workflow="Convert to XML")
    await conversion.add(job_id, "locked.pdf", protected("secret"))
    await conversion.add(job_id, "letter.docx", (SAMPLES / "letter-offer.docx").read_bytes())
    result = await conversion.start(job_id)
    assert result["status"] == "success" and sorted(d["fileName"] for d in result["dataList"]) == ["letter.xml", "locked.xml"], (
        result
    )
    for datum in result["dataList"]:
        body = (await conversion.call("GET", f"/jobs/{job_id}/result/{datum['resultId']}"))[1]
        assert body.startswith(b"<?xml") and b'<page number="1" source="text">' in body
