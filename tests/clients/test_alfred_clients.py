"""Alfred's own clients, unmodified: every public method with every credential, and real-time events by kind and by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.client import Client
from tests.clients.alfred import drive, prepared, python_environment, run_guide
from tests.clients.results import Fault, Results
from tests.conftest import Pipeline
from tests.tiers import needs, npm_installed

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]
HERE = Path(__file__).parent
ALL = ("API key", "OAuth", "HMAC")
NO_KEY = "The client's real-time class sends an API key alone."
PYTHON_FAULTS = (
    Fault(
        ("files.upload_file", "files.upload", "jobs.create", "http_client.put"), ("HMAC",), "'bytes' object has no attribute 'encode'",
        "The client cannot sign a request with a body: it expects text where its HTTP library has bytes.",
    ),
    Fault(
        ("http_client.delete",), ("API key", "OAuth"), "Failed to parse response",
        "The call is made, but the client cannot read an answer without a body; none of the vendor's calls needs DELETE.",
    ),
    Fault(("http_client.delete",), ("HMAC",), "401", "Signed requests are for the vendor's calls, and none of them needs DELETE."),
    Fault(("realtime.*",), ("OAuth", "HMAC"), "ConnectionError", NO_KEY),
)  # fmt: skip


NODE_FAULTS = (
    Fault(("realtime.*",), ("OAuth", "HMAC"), "Error", NO_KEY),
    Fault(
        ("files.uploadFile",), ("HMAC",), "The signature is not that of this request",
        "The client cannot sign a form: it signs the JSON of its own form object, which is not what it sends.",
    ),
)  # fmt: skip


@needs("libmagic")
async def test_the_python_client(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    folder = HERE / "alfred_python"
    python = python_environment(tmp_path / "venv", folder / "requirements.lock")
    results = Results("alfred-python", "0.6.4", "alfred", PYTHON_FAULTS)
    async with prepared(pipeline, client) as setting:
        await drive(setting, [str(python), str(folder / "drive.py")], tmp_path, results)
        assert "session_id" in await run_guide(setting, [str(python), "-c"], tmp_path, "python")
    results.check()


@needs("node")
async def test_the_node_client(pipeline: Pipeline, client: Client, tmp_path: Path) -> None:
    folder = npm_installed(HERE / "alfred_node", tmp_path / "node")
    results = Results("alfred-node", "1.1.8", "alfred", NODE_FAULTS)
    async with prepared(pipeline, client) as setting:
        await drive(setting, ["node", "drive.mjs"], folder, results)
        assert "sessionId" in await run_guide(setting, ["node", "--input-type=commonjs", "-e"], folder, "js")
    results.check()
