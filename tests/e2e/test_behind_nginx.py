"""The nginx configuration of `deploy/nginx`, as it stands, before a running pipeline: both services under one name, with TLS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme

from tests.conftest import SAMPLES, Pipeline
from tests.eventually import eventually
from tests.servers import free_port
from tests.tiers import needs

pytestmark = [pytest.mark.kafka, pytest.mark.slow, needs("nginx")]
FILE = Path(__file__).parents[2] / "deploy" / "nginx" / "stageline.conf"
AROUND = """\
daemon off; pid {folder}/pid; error_log {folder}/error.log; {user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/stageline.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """Its address, and the environment of a command line that reaches the pipeline through it alone."""

    url: str
    authority: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `stageline …` through the proxy."""
        # A process of its own: aiohttp reads SSL_CERT_FILE when it is imported.
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.fixture(scope="module")
def proxy(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """nginx with the file: only its port, its certificate and the services' ports are those of the test."""
    folder, port, authority = tmp_path_factory.mktemp("nginx"), free_port(), trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "fullchain.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    target = pipeline.target()
    text = FILE.read_text()
    own = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "/etc/nginx/tls": str(folder),
        "http://127.0.0.1:8081": f"http://127.0.0.1:{port_of(target.notifier_url)}",
        "http://127.0.0.1:8080": f"http://127.0.0.1:{port_of(target.url)}",
    }  # fmt: skip
    for theirs, ours in own.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    (folder / "stageline.conf").write_text(text)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user="user root;" if os.getuid() == 0 else ""))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    process = subprocess.Popen([program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")])
    url = f"https://localhost:{port}"
    given = {
        "STAGELINE_URL": url,
        "STAGELINE_NOTIFIER_URL": url,
        "STAGELINE_KEY": str(target.key),
        "SSL_CERT_FILE": str(folder / "ca.pem"),
    }
    yield Proxy(url, folder / "ca.pem", {**os.environ, **given})
    process.send_signal(signal.SIGTERM)
    process.wait(10)


async def test_a_large_file_its_job_and_its_events_come_through_the_proxy(proxy: Proxy, tmp_path: Path) -> None:
    async def up() -> bool:
        return proxy.command("jobs").returncode == 0

    await eventually(up, 20, 0.2)
    large = tmp_path / f"{uuid.uuid4().hex}.txt"
    large.write_text("Invoice No: INV-1\n" * 100_000)
    done = proxy.command("submit", str(SAMPLES / "contract-nda.pdf"), str(large), "--watch", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["stage"] == "completed" and len(job["files"]) == 2, "1.8 MB are more than nginx lets through by itself"
    events = proxy.command("events", "--job", job["id"], "--json")
    assert "job.finished" in events.stdout, events.stderr


async def test_an_event_leaves_at_once_and_a_socket_opens(proxy: Proxy, pipeline: Pipeline) -> None:
    trust = ssl.create_default_context(cafile=str(proxy.authority))
    key = {"authorization": f"Bearer {pipeline.target().key}"}
    async with aiohttp.ClientSession(headers=key) as http:
        async with http.get(f"{proxy.url}/events/stream?from=latest", ssl=trust) as stream:
            assert stream.status == 200
            async with http.post(
                f"{proxy.url}/v1/jobs", json={"workflow": "noop-five"}, headers={"prefer": "wait=20"}, ssl=trust
            ) as answer:
                assert answer.status in (200, 201, 202), await answer.text()
                job = (await answer.json())["job_id"]
            async for line in stream.content:
                if line.startswith(b"data:") and job.encode() in line and b"finished" in line:
                    break
        async with http.get(f"{proxy.url}/v1/webhooks", ssl=trust) as listed:
            assert listed.status == 200 and listed.content_type == "application/json"
        socket = f"{proxy.url.replace('https', 'wss')}/socket.io/?EIO=4&transport=websocket"
        async with http.ws_connect(socket, ssl=trust) as opened:
            assert (await opened.receive_str(timeout=5)).startswith("0{"), "the open packet of Engine.IO"
