"""The Conversion Service's clients run unchanged: the Advanced API's calls with their status codes, in JSON and XML."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import pikepdf
import pytest
from aiohttp import web
from PIL import Image

from cli.client import Client
from shared import clock
from tests.conftest import SAMPLES
from tests.e2e.conversion_client import Conversion, Problem
from tests.e2e.test_accounts import new_tenant
from tests.eventually import eventually
from tests.unit.test_pdf import protected

pytestmark = pytest.mark.kafka
NDA, SCAN = (SAMPLES / "contract-nda.pdf").read_bytes(), (SAMPLES / "scan-receipt.png").read_bytes()
XML = {"accept": "application/xml", "content-type": "application/xml"}


@pytest.fixture
async def conversion(client: Client) -> AsyncIterator[Conversion]:
    async with Conversion(client.target.url) as made:
        yield made


async def refused(conversion: Conversion, method: str, path: str, **more: Any) -> tuple[int, str]:
    with pytest.raises(Problem) as problem:
        await conversion.call(method, path, **more)
    return problem.value.status, problem.value.type


def pages(data: bytes) -> int:
    with pikepdf.open(io.BytesIO(data)) as document:
        assert not document.is_encrypted
        return len(document.pages)


async def test_an_image_becomes_a_pdf(conversion: Conversion) -> None:
    job_id = await conversion.create(("META.TITLE", "Receipt"))
    data_id = await conversion.add(job_id, "receipt.png", SCAN, ("META.TITLE", "Mine"))
    result = await conversion.start(job_id)
    assert result == {
        "success": True, "status": "success", "events": [], "dataList": [{"resultId": "1", "fileName": "receipt.pdf", "properties": [{"name": "pageCount", "value": "1"}]}],
    }, data_id  # fmt: skip
    status, body = await conversion.call("GET", f"/jobs/{job_id}/result/1")
    assert status == 200 and pages(body) == 1
    with pikepdf.open(io.BytesIO(body)) as document:
        assert str(document.docinfo["/Title"]) == "Mine", "a document's option overrides the job's"
    assert (await conversion.call("GET", f"/jobs/{job_id}"))[1]["status"]["code"] == "completed"
    assert job_id in [j["jobId"] for j in (await conversion.call("GET", "/jobs/"))[1]]
    assert (await conversion.call("DELETE", f"/jobs/{job_id}"))[0] == 204
    assert await refused(conversion, "GET", f"/jobs/{job_id}") == (404, "jobNotFound")


async def test_a_dossier_in_the_order_of_its_data(conversion: Conversion) -> None:
    job_id = await conversion.create(
        ("DOC.PASSWORD", "wrong"), ("DOC.PASSWORD", "secret"), workflow="Create Dossier PDF", name="case 42"
    )
    await conversion.add(job_id, "locked.pdf", protected("secret"))
    await conversion.add(job_id, "receipt.png", SCAN)
    await conversion.add(job_id, "other.pdf", protected("own"), ("DOC.PASSWORD", "own"))
    result = await conversion.start(job_id)
    assert result["status"] == "success" and [d["fileName"] for d in result["dataList"]] == ["case 42.pdf"], result
    body = (await conversion.call("GET", f"/jobs/{job_id}/result/1"))[1]
    assert pages(body) == 2 * pages(NDA) + 1
    with pikepdf.open(io.BytesIO(body)) as document:
        assert "/XObject" in document.pages[pages(NDA)].Resources, "the scan is in the middle"


@pytest.mark.parametrize(
    ("name", "data", "options", "code"),
    [
        ("locked.pdf", "locked", [("DOC.PASSWORD", "wrong")], "password"), ("a.pdf", b"%PDF-1.4 broken", [], "corrupt"),
        ("a.docx", "docx", [], "unsupportedFormat"), ("a.bin", b"\x00\x01\x02", [], "unsupportedFormat"),
    ],
)  # fmt: skip
async def test_what_cannot_be_converted(conversion: Conversion, name: str, data: Any, options: list[Any], code: str) -> None:
    bytes_ = (
        {"locked": protected("secret"), "docx": (SAMPLES / "letter-offer.docx").read_bytes()}.get(data, data)
        if isinstance(data, str)
        else data
    )
    job_id = await conversion.create()
    data_id = await conversion.add(job_id, name, bytes_, *options)
    result = await conversion.start(job_id)
    assert result["status"] == "error" and result["error"]["code"] == code and result["error"]["message"], result
    assert result["dataList"] == [] and [(e["severity"], e["dataId"]) for e in result["events"]] == [("error", data_id)]
    assert (await conversion.call("GET", f"/jobs/{job_id}"))[1]["status"]["code"] == "completed", (
        "the failure is in the result alone"
    )
    assert await refused(conversion, "GET", f"/jobs/{job_id}/result/1") == (404, "resultNotFound")


async def test_one_bad_document_of_two_is_a_warning(conversion: Conversion) -> None:
    job_id = await conversion.create()
    await conversion.add(job_id, "good.png", SCAN)
    bad = await conversion.add(job_id, "bad.pdf", b"%PDF-1.4 broken")
    result = await conversion.start(job_id)
    assert result["status"] == "warning" and [d["fileName"] for d in result["dataList"]] == ["good.pdf"]
    assert [(e["severity"], e["dataId"]) for e in result["events"]] == [("warning", bad)]


async def test_refusals(conversion: Conversion) -> None:
    for query, problem in (({"workflow": "Nope"}, "workflowNotFound"), ({"profile": "Nope"}, "profileNotFound")):
        assert await refused(conversion, "POST", "/jobs/", json=[], params=query) == (400, problem)
    assert await refused(conversion, "POST", "/jobs/", data="x", headers={"content-type": "text/plain"}) == (
        415,
        "unsupported_media_type",
    )
    for body in ("{", '[{"name": "X"}]', '{"name": 1}'):
        assert (await refused(conversion, "POST", "/jobs/", data=body, headers={"content-type": "application/json"}))[0] == 400
    for options in ([("NO.SUCH", "1")], [("META.TITLE", "a"), ("META.TITLE", "b")]):
        listed = [{"name": n, "value": v} for n, v in options]
        assert await refused(conversion, "POST", "/jobs/", json=listed) == (400, "invalidOption")
    job_id = await conversion.create()
    assert await refused(conversion, "POST", f"/jobs/{job_id}/data/", data=b"x", headers={"content-type": "text/plain"}) == (
        415,
        "unsupported_media_type",
    )
    with pytest.raises(Problem) as wrong:
        await conversion.add(job_id, "a.png", SCAN, ("NO.SUCH", "1"))
    assert (wrong.value.status, wrong.value.type) == (427, "invalidOption")


async def test_calls_that_come_too_early_or_too_late(conversion: Conversion) -> None:
    job_id = await conversion.create()
    assert await refused(conversion, "POST", f"/jobs/{job_id}:start") == (409, "noData")
    assert await refused(conversion, "GET", f"/jobs/{job_id}/result") == (409, "noResult")
    assert await refused(conversion, "GET", f"/jobs/{job_id}/result/1") == (409, "notAvailable")
    for url in ("http://127.0.0.1:1/a.pdf", "http://169.254.169.254/a.pdf", "ftp://example.com/a.pdf"):
        assert await refused(conversion, "POST", f"/jobs/{job_id}/data/", params={"url": url}) == (400, "urlNotDownloadable")
    await conversion.add(job_id, "a.png", SCAN)
    await conversion.start(job_id)
    assert await refused(conversion, "POST", f"/jobs/{job_id}:start") == (409, "jobAlreadyStarted")
    with pytest.raises(Problem) as late:
        await conversion.add(job_id, "a.png", SCAN)
    assert (late.value.status, late.value.type) == (409, "jobAlreadyStarted")
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/result"),
        ("GET", "/result/1"),
        ("POST", ":start"),
        ("POST", ":cancel"),
        ("POST", "/data/?url=x"),
    ):
        assert await refused(conversion, method, f"/jobs/nope{path}") == (404, "jobNotFound"), path
    assert await refused(conversion, "POST", f"/jobs/{job_id}/result/1:put", params={"url": "http://127.0.0.1:1/x"}) == (
        400,
        "transferFailed",
    )


async def test_the_result_shows_whether_cancel_was_in_time(client: Client, conversion: Conversion) -> None:
    job_id = await conversion.create(workflow="test-slow")
    assert (await conversion.call("POST", f"/jobs/{job_id}:cancel"))[0] == 202
    assert (await conversion.call("GET", f"/jobs/{job_id}"))[1]["status"]["code"] == "creating", (
        "cancel has no effect before the start"
    )
    await conversion.add(job_id, "a.txt", b"hello")
    assert (await conversion.call("POST", f"/jobs/{job_id}:start"))[0] == 204
    assert (await conversion.call("POST", f"/jobs/{job_id}:cancel"))[0] == 202
    result = (await conversion.call("GET", f"/jobs/{job_id}/result"))[1]
    assert result["status"] == "error" and result["error"]["code"] == "canceled"
    other = await conversion.create(workflow="test-slow")
    await conversion.add(other, "a.txt", b"hello")
    await conversion.call("POST", f"/jobs/{other}:start")
    assert (await conversion.call("DELETE", f"/jobs/{other}"))[0] == 202, "the job is canceled, and deleted after its end"
    assert await refused(conversion, "GET", f"/jobs/{other}") == (404, "jobNotFound")


async def test_everything_in_xml(conversion: Conversion) -> None:
    async def call(method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with conversion.http.request(
            method, conversion.base + path, **{"headers": {"accept": "application/xml"}, **more}
        ) as answer:
            body = await answer.read()
            return answer.status, ElementTree.fromstring(body) if answer.content_type.endswith("xml") else body

    options = "<root><item><name>META.TITLE</name><value>Uno</value></item></root>"
    status, root = await call("POST", "/jobs/", data=options, headers=XML)
    assert status == 201 and root.findtext("status/code") == "creating"
    job_id = root.findtext("jobId")
    status, problem = await call("POST", "/jobs/?workflow=Nope", data="<root/>", headers=XML)
    assert status == 400 and problem.findtext("title") == "Bad Request" and problem.findtext("status") == "400"
    assert (await call("POST", "/jobs/", data="<root>", headers=XML))[0] == 400
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    assert (await call("POST", "/jobs/", data=bomb, headers=XML))[0] == 400
    assert (await conversion.add(str(job_id), "a.png", SCAN)) is not None
    assert (await call("POST", f"/jobs/{job_id}:start"))[0] == 204
    status, root = await call("GET", f"/jobs/{job_id}/result")
    assert status == 200 and root.findtext("status") == "success" and root.findtext("dataList/item/fileName") == "a.pdf"
    status, root = await call("GET", "/workflows")
    assert [w.findtext("name") for w in root][:2] == ["Convert to PDF", "Create Dossier PDF"]


async def test_workflows_and_profiles(client: Client, conversion: Conversion) -> None:
    tenant, admin, producer = await new_tenant(client)
    async with admin, producer, Conversion(client.target.url, authorization=f"Bearer {producer.target.key}") as own:
        path = "/v1/conversion/profiles/Convert to PDF/Ours"
        profile = {
            "options": [{"name": "META.AUTHOR", "value": "Acme"}, {"name": "META.TITLE", "value": "x"}],
            "is_default": True,
        }
        await admin.call("PUT", path, json=profile)
        listed = {w["name"]: w for w in (await own.call("GET", "/workflows"))[1]}
        assert listed["Convert to PDF"]["isDefault"] and listed["Convert to PDF"]["profiles"] == [
            {"name": "Default", "isDefault": False}, {"name": "Ours", "isDefault": True},
        ]  # fmt: skip
        assert "documents" in listed
        job_id = await own.create(("META.TITLE", "job"))
        await own.add(job_id, "a.png", SCAN)
        assert (await own.start(job_id))["status"] == "success"
        with pikepdf.open(io.BytesIO((await own.call("GET", f"/jobs/{job_id}/result/1"))[1])) as document:
            assert (str(document.docinfo["/Author"]), str(document.docinfo["/Title"])) == ("Acme", "job")
        assert await refused(conversion, "GET", f"/jobs/{job_id}") == (404, "jobNotFound"), tenant
        status = (await own.call("GET", "/"))[1]
        assert status["status"] == "running" and status["jobCounts"] == {
            "creating": 0,
            "processing": 0,
            "completed": 1,
            "total": 1,
        }
        documents = await own.create(workflow="documents")
        await own.add(documents, "letter.docx", (SAMPLES / "letter-offer.docx").read_bytes())
        assert [d["fileName"] for d in (await own.start(documents))["dataList"]] == ["letter.docx.json"]


async def test_too_many_jobs(client: Client) -> None:
    _, admin, producer = await new_tenant(client)
    async with admin, producer, Conversion(client.target.url, authorization=f"Bearer {producer.target.key}") as own:
        jobs = [await own.create() for _ in range(100)]
        assert await refused(own, "POST", "/jobs/", json=[]) == (503, "tooManyJobs")
        await own.call("DELETE", f"/jobs/{jobs[0]}")
        assert await own.create()


async def test_results_are_delivered_to_a_url(conversion: Conversion) -> None:
    brought: list[tuple[str, bytes]] = []

    async def take(request: web.Request) -> web.Response:
        brought.append((request.method, await request.read()))
        return web.Response(status=201)

    app = web.Application()
    app.router.add_route("*", "/take", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/take"
    try:
        job_id = await conversion.create()
        await conversion.add(job_id, "a.png", SCAN)
        await conversion.start(job_id)
        for verb in ("put", "post"):
            assert (await conversion.call("POST", f"/jobs/{job_id}/result/1:{verb}", params={"url": url}))[0] == 204
        assert [m for m, _ in brought] == ["PUT", "POST"] and pages(brought[0][1]) == 1
    finally:
        await runner.cleanup()


async def test_a_watched_folder(client: Client, pipeline: Any) -> None:
    import json
    from pathlib import Path

    settings = json.loads(Path(pipeline.environment["STAGELINE_WATCHED_FOLDERS_FILE"]).read_text())
    folder = Path(settings["scans"]["path"])
    await eventually(lambda: there(folder / "in"), 10)
    image = io.BytesIO()
    Image.new("L", (100, 100), 128).save(image, "PNG")
    name = f"scan-{clock.new_root()}"
    (folder / "in" / f"{name}.png").write_bytes(image.getvalue())
    (folder / "in" / f"{name}-bad.pdf").write_bytes(b"%PDF-1.4 broken")
    await eventually(lambda: there(folder / "out" / f"{name}.pdf"), 30)
    assert pages((folder / "out" / f"{name}.pdf").read_bytes()) == 1
    await eventually(lambda: there(folder / "failed" / f"{name}-bad.pdf.log"), 30)
    await eventually(lambda: there(folder / "failed" / f"{name}-bad.pdf"), 10)
    assert json.loads((folder / "failed" / f"{name}-bad.pdf.log").read_text())["error"]["code"] == "corrupt"
    assert not [p for p in (folder / "taken").iterdir() if name in p.name]


async def there(path: Any) -> bool:
    return bool(path.exists())
