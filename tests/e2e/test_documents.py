"""Runs the commands of the documents as written: the README, the tutorials, and the guides' marked blocks.

A page becomes one bash script in a copy of the repository's folder. Commands that install, start or stop are left out, since the pipeline
runs already; `tests/architecture/test_documents.py` checks these lines against the parser and the Makefile.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from tests.conftest import Pipeline
from tests.documents import README, ROOT, TUTORIALS, Block, blocks, calls, name, pages
from tests.http_documents import all_paths

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
EXECUTED, SECOND_TERMINAL, ONCE_WAITING = "executed", "second terminal", "once the job waits for its approval"
GUIDES = [page for page in pages() if any(b.mark == EXECUTED for b in blocks(page))]
LEFT_OUT = re.compile(r"make |python3 -m venv |\S+/pip install ")
STARTS_OR_STOPS = {"up", "down", "doctor", "reset"}
WAITS = """for _ in $(seq 200); do .venv/bin/stageline why "$%s" | grep -q waiting_for_approval && break; done"""
HTTP_API = ROOT / "docs" / "reference" / "http-api.md"


def lines_of(block: Block) -> list[str]:
    """The lines of a block that are run."""
    return [
        line
        for line in block.lines
        if not LEFT_OUT.match(line) and not any(call and call[0] in STARTS_OR_STOPS for call in calls(line))
    ]


def script(page: Path, whole: bool) -> str:
    """A page as one script: all blocks if `whole`, else the marked ones."""
    parts = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in blocks(page):
        if block.title:
            parts.append(f"mkdir -p {shlex.quote(os.path.dirname(block.title))}\ncat > {block.title} <<'END'\n{block.text}END")
        if block.language != "sh" or not (whole or block.mark == EXECUTED):
            continue
        lines = lines_of(block)
        if block.mark == SECOND_TERMINAL:
            lines = ["(", *lines[:-1], f"exec {lines[-1]}", ") >second.log 2>&1 &"]
        if block.mark == ONCE_WAITING:
            [variable] = set(re.findall(r'"\$([A-Z]+)"', block.text))
            lines.insert(0, WAITS % variable)
        parts += lines
    return "\n".join(parts) + "\n"


def a_repository(folder: Path, pipeline: Pipeline) -> None:
    """A folder with the files that the documents' commands name."""
    for there in ("samples", "contracts", "stageline_kit"):
        (folder / there).symlink_to(ROOT / there)
    (folder / ".stageline").symlink_to(pipeline.data_dir)
    python = shlex.quote(sys.executable)
    root = shlex.quote(str(ROOT))
    for program, command in (
        (".venv/bin/stageline", f"PYTHONPATH={root} exec {python} -m cli"),
        ("my-worker/venv/bin/python", f"PYTHONPATH={root} exec {python}"),
    ):
        path = folder / program
        path.parent.mkdir(parents=True)
        path.write_text(f'#!/bin/sh\n{command} "$@"\n')
        path.chmod(0o755)


async def run_page(page: Path, folder: Path, pipeline: Pipeline, whole: bool = True) -> str:
    """Run a page's script on the pipeline; returns its output. Fails with the output when a command fails."""
    a_repository(folder, pipeline)
    state = pipeline.state
    text = script(page, whole)
    for said, real in (
        ("http://127.0.0.1:8080", state["url"]),
        ("http://127.0.0.1:8081", state["notifier_url"]),
        ("127.0.0.1:29092", state["kafka"]),
    ):
        text = text.replace(said, real)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STAGELINE_")}
    environment["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{environment['PATH']}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", text], capture_output=True, text=True, timeout=270, cwd=folder, env=environment
    )  # fmt: skip
    second = folder / "second.log"
    said = done.stdout + done.stderr + (second.read_text() if second.exists() else "")
    assert done.returncode == 0, said
    return said


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=name(p), marks=[pytest.mark.slow] * (p.stem in ("first-workflow", "first-worker")))
        for p in (README, *TUTORIALS)
    ],
)
async def test_the_commands_of_the_page_run(pipeline: Pipeline, tmp_path: Path, page: Path) -> None:
    if "curl" in page.read_text() and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    said = await run_page(page, tmp_path, pipeline)
    if page.stem == "first-job":
        assert "exit code 1" in said and '"stage":"completed"' in said
    if page.stem == "first-worker":
        assert "no_worker" in said and '"words":' in said and "The file has no words." in said
    if page.stem == "first-workflow":
        assert "they differ" in said and "wrong customer" in said


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=name)
async def test_the_marked_commands_of_the_guide_run(pipeline: Pipeline, tmp_path: Path, page: Path) -> None:
    await run_page(page, tmp_path, pipeline, whole=False)


async def test_the_programs_of_the_guide_run(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect_as(role: str) -> None:
        for variable, value in pipeline.settings("--role", role).items():
            monkeypatch.setenv(variable, value)

    found: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "how-to" / "own-programs.md"):
        if block.language == "python":
            exec(compile(block.text, name(block.page), "exec"), found)
    order, tally = str(tmp_path), str(tmp_path / "tally.db")
    connect_as("producer")
    job_id = await found["submit"](pipeline.kafka, order)
    assert await found["submit"](pipeline.kafka, order) == job_id
    connect_as("consumer")
    counting = asyncio.create_task(found["count_finished"](pipeline.kafka, tally))
    try:
        async with asyncio.timeout(60):
            while (job_id,) not in _finished(found, tally):
                await asyncio.wait([counting], timeout=0.2)
                assert not counting.done()
    finally:
        counting.cancel()


def _finished(found: dict[str, Any], database: str) -> list[tuple[str]]:
    with found["sqlite3"].connect(database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS finished (job_id TEXT PRIMARY KEY)")
        rows: list[tuple[str]] = connection.execute("SELECT job_id FROM finished").fetchall()
    connection.close()
    return rows


async def test_the_page_of_the_http_api_names_every_operation_and_no_other(client: Client) -> None:
    operations = {
        f"{method.upper()} {path}" for path, methods in (await all_paths(client)).items() for method in methods
    }  # fmt: skip
    assert documented() == operations


def documented() -> set[str]:
    """`METHOD path` of every call in the page's tables. `GET`, `PUT /x` names two; `/stop` alone replaces the last part of the call before."""
    found: set[str] = set()
    prefix = ""
    for line in HTTP_API.read_text().splitlines():
        if line.startswith("## "):
            prefix = "/conversion/v1.0/rest" if "Conversion" in line else ""
        if not line.startswith("| `") or "/" not in line.split("|")[1]:
            continue
        waiting: list[str] = []
        last = ""
        for code in re.findall(r"`([^`]+)`", line.split("|")[1]):
            if re.fullmatch("[A-Z]+", code):
                waiting.append(code)
                continue
            if code.startswith("/"):
                code = last.rpartition("/")[0] + code
            method, _, path = code.partition(" ")
            last = f"{method} {path.partition('?')[0]}"
            found |= {f"{m} {prefix}{path.partition('?')[0]}" for m in [*waiting, method]}
            waiting = []
    return found
