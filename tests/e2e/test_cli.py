"""The command line: output for people, JSON for scripts, and an exit code per outcome."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SAMPLES, Pipeline

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def submitted(pipeline: Pipeline) -> dict[str, object]:
    done = pipeline.command(
        "submit",
        str(SAMPLES / "invoice-globex-117.pdf"),
        str(SAMPLES / "locked-invoice.pdf"),
        "--metadata",
        '{"case": 7}',
        "--watch",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    job: dict[str, object] = json.loads(done.stdout)
    return job


def test_submit_without_watch_prints_the_job_id(pipeline: Pipeline) -> None:
    done = pipeline.command("submit", str(SAMPLES / "email-maintenance.eml"))
    assert done.returncode == 0 and len(done.stdout.strip()) == 36


def test_submit_has_an_exit_code_for_a_job_that_did_not_complete(pipeline: Pipeline) -> None:
    done = pipeline.command("submit", str(SAMPLES / "locked-invoice.pdf"), "--watch")
    shown = re.search(r"files  ([0-9.]+) s", done.stdout)
    assert shown is not None and float(shown[1]) > 0, "the time until the end of the job"
    assert done.returncode == 1 and "protected by a password" in done.stdout


def test_jobs_and_job(pipeline: Pipeline, submitted: dict[str, object]) -> None:
    listed = json.loads(pipeline.command("jobs", "--json", "--limit", "100").stdout)
    assert submitted["id"] in [j["id"] for j in listed]
    page = pipeline.command("job", str(submitted["id"])).stdout
    for part in (
        str(submitted["id"]),
        "documents@1",
        "invoice-globex-117.pdf",
        "locked-invoice.pdf",
        "encrypted",
        "job_stage_update",
        "synced",
    ):
        assert part in page, page
    found = json.loads(pipeline.command("job", str(submitted["id"]), "--json").stdout)
    assert found["metadata"] == {"case": 7} and found["waiting"] is None and len(found["history"]) > 20


def test_text_and_search(pipeline: Pipeline, submitted: dict[str, object]) -> None:
    file = next(f for f in submitted["files"] if f["status"] == "finished")  # type: ignore[attr-defined]
    assert "GX/2026/117" in pipeline.command("text", file["id"]).stdout
    hits = pipeline.command("search", "platform", "licen*", "--json")
    assert hits.returncode == 0 and file["id"] in [h["file_id"] for h in json.loads(hits.stdout)]
    assert pipeline.command("search", "xyzzyplugh").returncode == 4


def test_events(pipeline: Pipeline, submitted: dict[str, object]) -> None:
    said = pipeline.command("events", "--job", str(submitted["id"]), "--types", "job.*")
    assert "job.stage_update" in said.stdout and "job.finished" in said.stdout and "file." not in said.stdout


def test_webhooks(pipeline: Pipeline) -> None:
    made = json.loads(pipeline.command("webhooks", "add", "https://example.com/hook", "--event", "job.invalid", "--json").stdout)
    assert made["secret"].startswith("whsec_")
    assert made["id"] in pipeline.command("webhooks", "list").stdout
    assert json.loads(pipeline.command("webhooks", "log", made["id"], "--json").stdout)["result"] == []
    assert pipeline.command("webhooks", "log", "nonsense").returncode == 4
    assert pipeline.command("webhooks", "add", "https://127.0.0.2:1x/").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["job", "nonsense"], 4), (["text", "nonsense"], 4), (["cancel", "nonsense"], 4), (["submit"], 2), (["submit", "/no/such/file"], 2),
        (["submit", str(SAMPLES / "letter-offer.docx"), "--metadata", "{"], 2),
    ],
)  # fmt: skip
def test_exit_codes(pipeline: Pipeline, arguments: list[str], code: int) -> None:
    said = pipeline.command(*arguments)
    assert said.returncode == code and said.stderr.startswith("stageline: "), said.stderr


def test_cancel(pipeline: Pipeline, submitted: dict[str, object]) -> None:
    assert pipeline.command("cancel", str(submitted["id"])).returncode == 5


def test_nothing_running_is_exit_code_3(pipeline: Pipeline) -> None:
    env = {**os.environ, "STAGELINE_URL": "http://127.0.0.1:9", "STAGELINE_KEY": "x"}
    command = [sys.executable, "-c", "from cli import client; client.PATIENCE_S = 0.5; from cli.main import main; main()", "jobs"]
    assert subprocess.run(command, capture_output=True, env=env, timeout=60).returncode == 3


def test_submit_keeps_the_names_of_files(pipeline: Pipeline, tmp_path: Path) -> None:
    names = ["Meine Rechnung März (1).pdf", 'the "final" one.txt', r"back\slash.txt"]
    for name in names:
        (tmp_path / name).write_text("hello")
    done = pipeline.command("submit", *(str(tmp_path / name) for name in names), "--watch", "--json")
    assert sorted(f["file_name"] for f in json.loads(done.stdout)["files"]) == sorted(names), done.stderr
