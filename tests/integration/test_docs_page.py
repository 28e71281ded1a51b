"""`/docs` in a real browser that reaches no other host, under the page's own policy."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
import uvicorn

from shared.web.documentation import Documented, documented_app
from shared.web.page_headers import PageHeaders
from tests.eventually import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.mark.parametrize("page", ["docs", "docs/vendor"])
async def test_the_documentation_is_drawn_without_internet(page: str, tmp_path: Path) -> None:
    app = documented_app("Trial", "1.0", others={"vendor": Documented("Vendor", lambda made: made.openapi())})

    async def things() -> dict[str, str]:
        return {}

    app.add_api_route("/v1/things", things, tags=["Things"], summary="All things")
    server = uvicorn.Server(uvicorn.Config(PageHeaders(app), port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())

    async def up() -> bool:
        return server.started

    await eventually(up, 10)
    port = server.servers[0].sockets[0].getsockname()[1]
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={tmp_path}", "--enable-logging=stderr",
        "--virtual-time-budget=60000", "--dump-dom", f"http://127.0.0.1:{port}/{page}",
    ]  # fmt: skip
    try:
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    finally:
        server.should_exit = True
        await serving
    assert "/v1/things" in done.stdout and "All things" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Content Security Policy" not in done.stderr, done.stderr[-2000:]
