"""Every public method of Invopop's Go client, by its wire format and with strict types, against a running pipeline.

No public proxy serves the client itself here, so a program of ours makes its calls. `results/invopop-go.json` holds what works;
`STAGELINE_WRITE_RESULTS=1` writes it again.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from tests.tiers import needs

pytestmark = [pytest.mark.kafka, pytest.mark.slow, needs("go")]
SOURCE = Path(__file__).parent
RESULTS = SOURCE.parent / "results" / "invopop-go.json"
CREDENTIAL = "Bearer token"


async def outcomes(client: Client, folder: Path) -> list[dict[str, str]]:
    """What the program prints: each method with its result."""
    program = folder / "invopop"
    subprocess.run(["go", "vet", "./..."], cwd=SOURCE, check=True)
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=SOURCE, check=True)
    about = {**os.environ, "INVOPOP_URL": client.target.url, "INVOPOP_TOKEN": client.target.key}
    running = await asyncio.create_subprocess_exec(program, env=about, stdout=subprocess.PIPE)
    said, _ = await asyncio.wait_for(running.communicate(), 180)
    assert running.returncode == 0
    calls: list[dict[str, str]] = json.loads(said)["calls"]
    return calls


async def test_every_method_works_or_differs_for_a_reason(client: Client, tmp_path: Path) -> None:
    found = await outcomes(client, tmp_path)
    assert not [call for call in found if not call["result"].startswith(("works", "differs: "))], found
    table: dict[str, Any] = {
        "client": "client.go (by wire format)", "version": "0.59.0", "vendor": "invopop",
        "calls": [{"method": call["method"], "results": {CREDENTIAL: call["result"]}} for call in found],
    }  # fmt: skip
    if os.environ.get("STAGELINE_WRITE_RESULTS") == "1":
        RESULTS.write_text(json.dumps(table, indent=2) + "\n")
    assert json.loads(RESULTS.read_text()) == table
