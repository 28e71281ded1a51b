"""The vendor's published clients of the Conversion Service, by their calls. What came of each is in `results/conversion-service.json`."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pikepdf
import pytest
from aiohttp import web

from tests.clients.conversion.chrome import ORIGIN, ChromeClient
from tests.clients.conversion.collection import CALLS, Collection
from tests.clients.conversion.wire import PROBLEM, send, shortcoming
from tests.conftest import SAMPLES
from tests.pipelines import RestartablePipeline

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]
RESULTS = Path(__file__).parents[1] / "results" / "conversion-service.json"
BASE = "/conversion/v1.0/rest"
NDA, SCAN = (SAMPLES / "contract-nda.pdf").read_bytes(), (SAMPLES / "scan-receipt.png").read_bytes()
NO_FIELD = "differs: The extension has no field for a key."


@dataclass
class Elsewhere:
    """A web server of the user's: a document to fetch, and a place to store results at."""

    url: str = ""
    stored: list[bytes] = field(default_factory=list)


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    """The server, while a test runs."""
    made = Elsewhere()

    async def give(request: web.Request) -> web.Response:
        return web.Response(body=NDA, content_type="application/pdf")

    async def take(request: web.Request) -> web.Response:
        made.stored.append(await request.read())
        return web.Response(status=201)

    app = web.Application()
    app.router.add_get("/nda.pdf", give)
    app.router.add_put("/stored.pdf", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@dataclass(frozen=True)
class Service:
    """Where the service is, and a session for each credential."""

    base: str
    credentials: dict[str, dict[str, str]]

    @asynccontextmanager
    async def session(self, credential: str) -> AsyncIterator[aiohttp.ClientSession]:
        """An HTTP session that sends this credential alone."""
        async with aiohttp.ClientSession(headers=self.credentials[credential]) as made:
            yield made


@pytest.fixture(scope="module")
async def service(restartable: RestartablePipeline) -> Service:
    """A pipeline that lists the extension's origin."""
    await asyncio.to_thread(restartable.restart, STAGELINE_CORS_ORIGINS=json.dumps([ORIGIN]))
    target = restartable.target()
    return Service(target.url + BASE, {"no key": {}, "API key": {"X-API-Key": str(target.key)}})


def archived(pdf: bytes) -> bool:
    """True for PDF/A-2."""
    with pikepdf.open(io.BytesIO(pdf)) as made, made.open_metadata() as metadata:
        return str(metadata.pdfa_status).startswith("2")


async def by_collection(http: aiohttp.ClientSession, service: Service, elsewhere: Elsewhere) -> dict[str, str]:
    """Call → what came of it, over all runs that the collection leads through."""
    one = Collection(http, service.base, NDA, f"{elsewhere.url}/nda.pdf", f"{elsewhere.url}/stored.pdf")
    await one.run("createJob")
    assert one.passed == 12 and archived(one.answers["getJobResultData"].content), one.results
    await one.run("createJob", "addData", "startJob", "cancelJob")
    assert one.passed == 12 + 9, one.results
    await one.run("createJob", "addData by url", "startJob", "getJobInfo", "getJobResult", "storeJobResultData as shipped")
    await one.run("createJob", "addData", "startJob", "getJobResult", "storeJobResultData")
    for name in ("getServiceStatus", "listWorkflows", "listJobs"):
        await one.call(name)
    assert archived(elsewhere.stored.pop())
    return one.results


async def by_chrome(http: aiohttp.ClientSession, service: Service) -> dict[str, str]:
    """The same for the Chrome client's two ways to convert."""
    client = ChromeClient(http, service.base)
    assert await client.is_online()
    workflow, profile = await client.selected()
    files = {"contract nda.pdf": NDA, "Quittung März.png": SCAN}
    separate = await client.convert(files, workflow, profile, merge=False)
    merged = await client.convert(files, "Create Dossier PDF", "Default", merge=True)
    counts = []
    for pdf in (*separate, *merged):
        with pikepdf.open(io.BytesIO(pdf)) as made:
            counts.append(len(made.pages))
    assert len(counts) == 3 and counts[2] == counts[0] + counts[1]
    return {"Chrome client: a job for each file": "works", "Chrome client: one job for all files": "works"}


async def test_every_call_of_the_vendor_s_clients(service: Service, elsewhere: Elsewhere) -> None:
    found: dict[str, dict[str, str]] = {}
    for credential in service.credentials:
        async with service.session(credential) as http:
            for call, result in (await by_collection(http, service, elsewhere)).items():
                found.setdefault(call, {})[credential] = result
    async with service.session("no key") as http:
        for call, result in (await by_chrome(http, service)).items():
            found[call] = {"no key": result, "API key": NO_FIELD}
    order = [*CALLS, *(call for call in found if call not in CALLS)]
    assert [{"method": call, "results": found[call]} for call in order] == json.loads(RESULTS.read_text())["calls"]


async def test_an_extension_that_is_not_listed_may_read_alone(service: Service) -> None:
    async with service.session("no key") as http:
        headers = {"Origin": ORIGIN.replace("a", "b"), "Content-Type": "application/json"}
        async with http.post(f"{service.base}/jobs", data=b"[]", headers=headers) as answer:
            assert answer.status == 401 and "STAGELINE_CORS_ORIGINS" in (await answer.json())["detail"]


async def test_the_documented_refusals(service: Service) -> None:
    async with service.session("API key") as http:
        one = Collection(http, service.base, NDA, "http://127.0.0.1:1/none.pdf", "http://127.0.0.1:1/")

        async def refused(name: str, status: int, path: str = "", **headers: str) -> None:
            call = CALLS[name]
            there = service.base + (path or call.path).format_map({**one.variables, "result_id": "1"})
            answer = await send(http, call.method, there, {**call.headers, **headers}, call.body)
            assert answer.status == status and answer.kind == "application/problem+json", (name, there, answer)
            assert shortcoming(PROBLEM, answer.json) is None and answer.json["status"] == status, answer

        for name, call in CALLS.items():
            if call.needs and name != "storeJobResultData as shipped":
                await refused(name, 404)
        for path in ("/jobs/?workflow=No%20Such", "/jobs/?profile=none"):
            await refused("createJob", 400, path)
        await one.call("createJob")
        for name, status in (("getJobResult", 409), ("getJobResultData", 409), ("addData by url", 400), ("startJob", 409)):
            await refused(name, status)
        await refused("addData by url", 415, **{"Content-Type": "text/plain"})
        for name in ("addData", "startJob", "getJobResult"):
            await one.call(name)
        for name, status in (("startJob", 409), ("addData by url", 409), ("storeJobResultData", 400)):
            await refused(name, status)
        await refused("storeJobResultData", 400, "/jobs/{job_id}/result/{result_id}:get?url={target}")
        await refused("getJobResultData", 404, "/jobs/{job_id}/result/99")
        await one.call("deleteJob")
