"""The Conversion Service's dialect without a pipeline: names of every version, options judged before a job, multipart beside `url`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingest.dialects.pdftools import names, options
from services.ingest.dialects.pdftools.common import PREFIX
from tests.gateway_app import InProcess, gateway_app

JOBS = f"{PREFIX}/jobs/"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_app(tmp_path) as made:
        yield made


@pytest.fixture
async def http(gateway: InProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.http(**{"x-api-key": await gateway.key()}) as made:
        yield made


def problem(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, last part of the type, and field of a refusal."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json" and body["status"] == answer.status_code
    return answer.status_code, body["type"].rpartition("/")[2], body.get("field")


EMPTY = {
    "application/xml": ["<root/>", "<root></root>", "<root>\n  </root>", "<options/>", "", "  "],
    "application/json": ["[]", "null", "", " "],
}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("Archive as PDF/A-2", "Archive as PDF/A-2"), ("Archive PDF/A-2", "Archive as PDF/A-2"), ("archive pdf/a-1", "Archive as PDF/A-1"),
        ("ARCHIVE AS PDF/A-3", "Archive as PDF/A-3"), ("Conversion", "Convert to PDF"), ("dossier", "Create Dossier PDF"),
        ("Invoice", "Prepare Invoice PDF"), ("sign", "Sign PDF"), ("Documents", "documents"), ("Archive PDF/A-4", None), ("", None),
    ],
)  # fmt: skip
def test_workflows_have_the_names_of_all_versions_in_any_case(given: str, meant: str | None) -> None:
    assert names.workflow_named(given, ["documents"]) == meant


def test_a_published_workflow_keeps_its_name() -> None:
    assert names.workflow_named("Invoice", ["Invoice"]) == "Invoice", "the exact spelling counts first"
    assert names.workflow_named("Convert to PDF", ["Convert to PDF"]) == "Convert to PDF"


@pytest.mark.parametrize(
    ("workflow", "given", "meant"),
    [
        ("Archive as PDF/A-2", "default", "Default"), ("Convert to PDF", "DEFAULT", "Default"), ("Convert to PDF", "All to PDF", "Default"),
        ("Create Dossier PDF", "merge", "Default"), ("Archive as PDF/A-2", "ready for web pdf/a-2", "Web Optimization"),
        ("Archive as PDF/A-2", "email optimization", "Email Optimization"), ("Archive as PDF/A-2", "thumbs", "Thumbs"),
        ("Convert to PDF", "Web Optimization", None), ("Archive as PDF/A-3", "Archive PDF/A-2", None),
    ],
)  # fmt: skip
def test_profiles_have_the_vendor_s_names_in_any_case(workflow: str, given: str, meant: str | None) -> None:
    assert names.profile_named(workflow, given, ["Thumbs"]) == meant


def test_other_names_lead_to_what_exists() -> None:
    assert set(names.FORMER_WORKFLOWS.values()) <= set(names.WORKFLOWS)
    assert all(profile in names.built_in_profiles(flow) for (flow, _), profile in names.OTHER_PROFILES.items())


async def test_a_job_stores_today_s_names(gateway: InProcess, http: httpx.AsyncClient) -> None:
    answer = await http.post(JOBS, params={"workflow": "archive pdf/a-2", "profile": "default"}, json=[])
    assert answer.status_code == 201 and answer.json()["status"]["code"] == "creating", answer.text
    [row] = await gateway.rows("SELECT workflow, profile FROM conversion_job")
    assert tuple(row) == ("Archive as PDF/A-2", "Default")


async def test_an_empty_list_is_no_options(gateway: InProcess, http: httpx.AsyncClient) -> None:
    for kind, bodies in EMPTY.items():
        for body in bodies:
            made = await http.post(JOBS, content=body, headers={"content-type": kind})
            assert made.status_code == 201, (kind, body, made.text)
            form: dict[str, Any] = {"files": {"data": ("a.txt", b"x")}, "data": {"options": body}}
            assert (await http.post(f"{JOBS}{made.json()['jobId']}/data/", **form)).status_code == 201, (kind, body)
    assert {row[0] for row in await gateway.rows("SELECT options FROM conversion_job")} == {"[]"}


async def test_blank_values_in_xml_stay_as_they_are(gateway: InProcess, http: httpx.AsyncClient) -> None:
    body = "<root><item><name>DOC.PASSWORD</name><value>  </value></item></root>"
    assert (await http.post(JOBS, content=body, headers={"content-type": "application/xml"})).status_code == 201
    assert json.loads((await gateway.rows("SELECT options FROM conversion_job"))[0][0]) == [["DOC.PASSWORD", "  "]]


async def test_an_unfilled_placeholder_is_no_option(gateway: InProcess, http: httpx.AsyncClient) -> None:
    placeholder = {"name": "<string>", "value": "<string>"}
    made = await http.post(JOBS, json=[placeholder, {"name": "META.TITLE", "value": "T"}, placeholder])
    assert made.status_code == 201
    assert json.loads((await gateway.rows("SELECT options FROM conversion_job"))[0][0]) == [["META.TITLE", "T"]]
    assert problem(await http.post(JOBS, json=[{"name": "<other>", "value": "x"}])) == (400, "invalidOption", "<other>")


WRONG = [
    ("PDF.LINEARIZE", "perhaps"), ("IMAGE.LONGEST_SIDE", "wide"), ("IMAGE.LONGEST_SIDE", "99"), ("DOC.ROLE", "guest"),
    ("AF.RELATIONSHIP", "Friend"), ("AF.MODDATE", "yesterday"), ("NO.SUCH", "1"),
]  # fmt: skip


async def test_a_wrong_option_is_refused_before_there_is_a_job(gateway: InProcess, http: httpx.AsyncClient) -> None:
    admin = {"x-api-key": await gateway.key("admin")}
    path = f"{JOBS}{(await http.post(JOBS)).json()['jobId']}/data/"
    for name, value in WRONG:
        listed = [{"name": name, "value": value}]
        assert problem(await http.post(JOBS, json=listed)) == (400, "invalidOption", name)
        form: dict[str, Any] = {"files": {"data": ("a.txt", b"x")}, "data": {"options": json.dumps(listed)}}
        assert problem(await http.post(path, **form)) == (427, "invalidOption", name)
        sent = {"data": [{"fileName": "a.txt", "content": "eA==", "options": listed}]}
        assert problem(await http.post(f"{PREFIX}/http.inputstructured/convert-to-pdf", json=sent)) == (
            400,
            "invalidOption",
            name,
        )
        profile = await http.put("/v1/conversion/profiles/Convert to PDF/ours", json={"options": listed}, headers=admin)
        assert problem(profile) == (400, "urn:stageline:error:invalidOption", name)
    assert (
        await gateway.rows("SELECT * FROM conversion_data") == [] and len(await gateway.rows("SELECT 1 FROM conversion_job")) == 1
    )


def test_values_of_options_become_what_workers_read() -> None:
    given = [
        ("DOC.ROLE", "Attached"),
        ("AF.RELATIONSHIP", "data"),
        ("AF.MODDATE", "D:20261130080000+01'00'"),
        ("PDF.LINEARIZE", "TRUE"),
    ]
    found = options.merge_options(options.Options(), options.Options(), {"f": options.options_of(given)})
    assert found["documents"]["f"] == {
        "DOC.ROLE": "attached", "AF.RELATIONSHIP": "Data", "AF.MODDATE": "2026-11-30T08:00:00+01:00", "PDF.LINEARIZE": True,
    }  # fmt: skip
    dates = ["2026-11-30", "2026-11-30T08:00:00Z", "D:20261130080000Z", "D:20261130080000"]
    assert [str(options.read_date(d)) for d in dates] == ["2026-11-30 00:00:00+00:00"] + ["2026-11-30 08:00:00+00:00"] * 3
    assert [options.read_date(d) for d in ("D:20261330080000Z", "D:2026", "30.11.2026", "0001-01-01", "")] == [None] * 5


async def test_a_form_beside_a_url_is_what_counts(gateway: InProcess, http: httpx.AsyncClient) -> None:
    job_id = (await http.post(JOBS)).json()["jobId"]
    path = f"{JOBS}{job_id}/data/"
    for url in ("http://127.0.0.1:1/a.pdf", "<url>", ""):
        added = await http.post(path, params={"url": url}, files={"data": ("a.txt", b"hello")})
        assert added.status_code == 201, added.text
    commands = [message for _, message in gateway.publisher.published if hasattr(message, "file")]
    assert [c.file.file_name for c in commands] == ["a.txt"] * 3 and {c.file.size for c in commands} == {5}
    assert problem(await http.post(path, params={"url": "<url>"}, json=[])) == (400, "urlNotDownloadable", "url")
    assert problem(await http.post(path, json=[]))[:2] == (415, "unsupported_media_type"), "without url a form is expected"


async def test_another_method_of_storing_is_400(http: httpx.AsyncClient) -> None:
    job_id = (await http.post(JOBS)).json()["jobId"]
    for method in ("get", "delete", "patch", "x", "put2", " "):
        answer = await http.post(f"{JOBS}{job_id}/result/1:{method}", params={"url": "https://example.com/"})
        assert problem(answer) == (400, "invalidMethod", "storeMethod")


async def test_methods_of_storing_in_any_case(http: httpx.AsyncClient) -> None:
    job_id = (await http.post(JOBS)).json()["jobId"]
    for method in ("put", "post", "PUT", "Post"):
        path = f"{JOBS}{job_id}/result/1:{method}"
        assert problem(await http.post(path, params={"url": "https://example.com/"})) == (409, "notAvailable", None)
        assert problem(await http.post(path)) == (400, "invalid_request", "url")
        assert problem(await http.post(f"{JOBS}nope/result/1:{method}", params={"url": "https://example.com/"}))[0] == 404


async def test_a_missing_job_has_the_documented_problem(http: httpx.AsyncClient) -> None:
    body = (await http.get(f"{JOBS}nojob")).json()
    assert set(body) == {"type", "title", "status", "detail"} and "nojob" in body["detail"]
    assert (body["type"], body["title"], body["status"]) == (
        "http://www.pdf-tools.com/service/rest/errors/jobNotFound",
        "Job not found.",
        404,
    )


def ended(stage: str, **more: Any) -> dict[str, Any]:
    """Our record of an ended job with one output."""
    output = {"file_name": "a.pdf", "blob_name": "x"}
    return {"stage": stage, "outputs": [output], "error_messages": ["broken [damaged]"], **more}


def file(**more: Any) -> dict[str, Any]:
    """Our record of its one file."""
    return {"id": "f", "file_name": "a", "status": "completed", "code": None, "message": "", "properties": {}, **more}


def test_a_result_has_success_beside_status() -> None:
    warned = file(properties={"warning.NotLinearized": "It is not linearized."})
    found = [options.result_of(ended("completed"), [f]) for f in (file(), warned)]
    found.append(options.result_of(ended("failed"), [file(status="failed", code="damaged", message="No.")]))
    found.append(options.result_of(ended("cancelled"), [file()]))
    assert [(r["success"], r["status"]) for r in found] == [
        (True, "success"),
        (True, "warning"),
        (False, "error"),
        (False, "error"),
    ]
    assert [r.get("error", {}).get("code") for r in found] == [None, None, "corrupt", "canceled"]
