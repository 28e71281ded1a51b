"""Clients that others' generators make of our OpenAPI documents, against a running pipeline: submit, wait, read results."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cli.client import Client
from shared import clock
from tests.clients.alfred import python_environment
from tests.conftest import SAMPLES, Pipeline
from tests.tiers import needs, npm_installed

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]
HERE = Path(__file__).parent
INVOICE = "invoice-acme-2026-0042.pdf"
LEFT_OUT = ("/v1/jobs/{job_id}/results.zip", "/v1/uploads/{upload_id}", "/events/stream")
"""What openapi-python-client has no code for: a ZIP file, the bytes of a resumable upload, an event stream."""


@contextlib.asynccontextmanager
async def remote_file() -> AsyncIterator[str]:
    """The address of an invoice, on a server of this machine."""
    app = web.Application()
    app.router.add_static("/", SAMPLES)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/{INVOICE}"
    finally:
        await runner.cleanup()


async def run(command: Sequence[str], folder: Path, **environment: str) -> str:
    """What the program says on standard output and standard error. Fails with it when the program fails."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=folder, env=env, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


async def write_documents(client: Client, folder: Path) -> dict[str, Path]:
    """The documents of the gateway and the notifier, as files."""
    found = {}
    for name, notifier in (("stageline", False), ("notifier", True)):
        found[name] = folder / f"{name}.json"
        found[name].write_text(json.dumps(await client.call("GET", "/openapi.json", notifier=notifier)))
    return found


def check(said: str) -> None:
    """Hold the program's last line against what it must have read."""
    shown: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    assert shown["stage"] == "completed" and shown["tag"] == "invoice" and shown["fields"], shown
    assert "documents" in shown["refused"], shown


async def test_openapi_python_client(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    python = await asyncio.to_thread(python_environment, tmp_path / "venv", HERE / "requirements.lock")
    generator, path = str(python.parent / "openapi-python-client"), f"{python.parent}:{os.environ['PATH']}"
    for name, document in (await write_documents(client, tmp_path)).items():
        made = f"stageline_{name}_client" if name != "stageline" else "stageline_client"
        command = [generator, "generate", "--path", str(document), "--meta", "none", "--output-path", str(tmp_path / made)]
        said = await run(command, tmp_path, PATH=path, NO_COLOR="1", COLUMNS="200")
        warned = [line for line in said.splitlines() if line.startswith("WARNING")]
        assert all(any(part in line for part in LEFT_OUT) for line in warned), said
    async with remote_file() as remote:
        given = {"STAGELINE_URL": client.target.url, "STAGELINE_KEY": client.target.key, "PYTHONPATH": str(tmp_path)}
        check(await run([str(python), str(HERE / "drive.py"), remote, clock.new_root()], tmp_path, **given))


@needs("node")
async def test_openapi_typescript(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    folder = await asyncio.to_thread(npm_installed, HERE, tmp_path / "node")
    for name, document in (await write_documents(client, tmp_path)).items():
        # Without the option, a member of a request that has a default would have to be sent.
        await run(["npx", "openapi-typescript", str(document), "-o", f"{name}.ts", "--default-non-nullable=false"], folder)
    await run(["npx", "tsc"], folder)
    async with remote_file() as remote:
        given = {"STAGELINE_URL": client.target.url, "STAGELINE_KEY": client.target.key}
        check(await run(["node", "drive.js", remote, clock.new_root()], folder, **given))
