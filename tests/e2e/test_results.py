"""What steps returned, by HTTP and by the command line: as JSON, CSV, a table and a ZIP file."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from cli.commands.submit import submit_files
from tests.conftest import SAMPLES, Pipeline
from tests.e2e.test_gateway import ended
from tests.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
WORKFLOW = {
    "name": "test-results",
    "version": 1,
    "steps": [
        {"name": "identify", "action": "file.identify"},
        {"name": "guard", "action": "file.guard"},
        {"name": "extract", "action": "text.extract"},
        {"name": "fields", "action": "fields.extract"},
        {"name": "approve", "scope": "job", "stage": "in_revision", "wait": {"kind": "approval", "timeout_s": 600}},
    ],
}
ANSWER = {"approved_by": '=HYPERLINK("x")', "amounts": [1, 2.5]}
KEPT = {**ANSWER, "by": "admin"}


@pytest.fixture(scope="module")
def done(pipeline: Pipeline) -> dict[str, Any]:
    """A job with a good file and a locked one, whose approval has returned data."""
    return asyncio.run(_run(pipeline))


async def _run(pipeline: Pipeline) -> dict[str, Any]:
    async with Client(pipeline.target()) as client:
        await client.call("POST", "/v1/workflows/test-results/publish", json=WORKFLOW)
        files = [SAMPLES / "invoice-globex-117.pdf", SAMPLES / "locked-invoice.pdf"]
        job_id = await submit_files(client, files, {"workflow": "test-results", "metadata": {"case": "results"}})

        async def waits() -> bool:
            return bool((await client.call("GET", f"/v1/jobs/{job_id}/why"))["code"] == "waiting_for_approval")

        await eventually(waits, 40)
        await client.call("POST", f"/v1/jobs/{job_id}/poke", json={"step": "approve", "data": ANSWER})
        return await ended(client, job_id)


def test_a_job_shows_what_its_steps_returned(pipeline: Pipeline, done: dict[str, Any]) -> None:
    assert done["stage"] == "completed" and done["results"] == {"approve": KEPT}
    shown = pipeline.command("job", done["id"]).stdout
    assert 'approve: {"approved_by"' in shown and "[1, 2.5]" in shown
    found = json.loads(pipeline.command("results", done["id"], "--output", "json").stdout)
    assert found[0]["results"] == {"approve": KEPT} and len(found[0]["files"]) == 2
    good = next(f for f in found[0]["files"] if f["status"] == "finished")
    assert good["fields"] and good["code"] is None
    table = pipeline.command("results", done["id"])
    assert table.returncode == 0 and done["id"] in table.stdout and good["file_id"] in table.stdout, table.stdout


def test_many_jobs_become_one_table(pipeline: Pipeline, done: dict[str, Any]) -> None:
    said = pipeline.command("results", "--workflow", "test-results@1", "--stage", "completed", "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(said.stdout)))
    assert {r["job_id"] for r in rows} == {done["id"]} and {r["status"] for r in rows} >= {"finished"} and len(rows) == 2
    assert {r["results.approve.approved_by"] for r in rows} == {'\'=HYPERLINK("x")'}, "no formula for a spreadsheet"
    assert {r["results.approve.amounts"] for r in rows} == {"[1, 2.5]"}
    none = pipeline.command("results", "--workflow", "no-such-workflow")
    assert none.returncode == 4 and "no results" in none.stdout
    assert pipeline.command("results", done["id"], "--tag", "x").returncode == 2
    assert pipeline.command("results", "no-such-id").returncode == 4


def test_one_file_alone(pipeline: Pipeline, done: dict[str, Any]) -> None:
    file = done["files"][0]["id"]
    [found] = json.loads(pipeline.command("results", file, "--output", "json").stdout)
    assert found["job_id"] == done["id"] and [f["file_id"] for f in found["files"]] == [file]


def test_the_zip_names_every_file_also_those_that_failed(pipeline: Pipeline, done: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "all.zip"
    said = pipeline.command("results", done["id"], "--output", "zip", "--to", str(target))
    assert said.returncode == 0, said.stderr
    with zipfile.ZipFile(target) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert set(manifest["entries"]) == set(archive.namelist()) - {"manifest.json"}
    assert {f["file_name"] for f in manifest["files"]} == {"invoice-globex-117.pdf", "locked-invoice.pdf"}
    locked = next(f for f in manifest["files"] if f["file_name"] == "locked-invoice.pdf")
    assert locked["code"] and manifest["results"] == {"approve": KEPT}
    assert list(tmp_path.iterdir()) == [target], "no part is left"


async def test_the_same_by_http(pipeline: Pipeline, done: dict[str, Any], client: Client) -> None:
    page = await client.call("GET", "/v1/results", params={"workflow": "test-results@1", "limit": "1"})
    assert [r["job_id"] for r in page["result"]] == [done["id"]] and page["next"] is None
    async with client.http.get(f"{client.target.url}/v1/jobs/{done['id']}/results?format=csv") as answer:
        assert answer.status == 200 and answer.content_type == "text/csv"
        assert len(list(csv.DictReader(io.StringIO(await answer.text(), newline="")))) == 2
    async with client.http.get(f"{client.target.url}/v1/jobs/{done['id']}/results?format=xml") as answer:
        assert answer.status == 400
    finished = [
        e
        for e in (await client.call("GET", f"/v1/jobs/{done['id']}/history"))["result"]
        if e["event"]["event_name"] == "job_finished_event"
    ]
    assert finished[0]["event"]["results"] == {"approve": KEPT}
