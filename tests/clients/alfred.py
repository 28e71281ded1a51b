"""Runs Alfred's own clients, each as a program in an environment of its own, against a running pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import socketio
from aiohttp import web

from cli.client import Client
from contracts import Message, derived, to_record
from contracts.alfred import AlfredEvent
from shared import clock
from shared.kafka.clients import make_producer
from tests.clients.results import Results
from tests.conftest import SAMPLES, Pipeline
from tests.contracts.examples import examples
from tests.documents import ROOT, blocks
from tests.eventually import eventually

INVOICE = SAMPLES / "invoice-acme-2026-0042.pdf"
PASSWORD = "correct horse battery"
KINDS = {"API key": "api_key", "OAuth": "bearer", "HMAC": "amx"}
"""Credential → what `who-am-i` calls it."""
GUIDE = ROOT / "docs" / "how-to" / "migrate-from-alfred.md"
OWN = "realtime"
MOST_S = 150
"""Longest run of one program."""


def python_environment(folder: Path, lock: Path) -> Path:
    """A new environment with the packages of a lock file and nothing else; its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
    subprocess.run(pip, check=True, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    return python


@dataclass
class Setting:
    """What the programs get: addresses, credentials, a remote file, and a company of their own for real-time events."""

    pipeline: Pipeline
    client: Client
    remote: str
    credentials: dict[str, dict[str, Any]]
    listeners: dict[str, dict[str, Any]]
    tenant: str

    def given(self, credential: str, known: dict[str, str]) -> dict[str, Any]:
        """Standard input of a program."""
        target = self.pipeline.target()
        return {
            "url": target.url, "realtime_url": target.notifier_url, "credential": self.credentials[credential],
            "listener": self.listeners[credential], "kind": KINDS[credential], "file": str(INVOICE), "remote": self.remote, **known,
        }  # fmt: skip


@contextlib.asynccontextmanager
async def prepared(pipeline: Pipeline, client: Client) -> AsyncIterator[Setting]:
    """Credentials of the three kinds, and a server with a remote file."""
    mark = clock.new_root()
    tenant = f"listens-{mark}"
    listener = (await client.call("POST", "/v1/keys", json={"user_name": "listens", "tenant_id": tenant}))["key"]
    await client.call("PUT", f"/v1/users/user-{mark}", json={"password": PASSWORD, "role": "admin"})
    signing = await client.call("POST", "/v1/applications", json={"user_name": "sdk", "role": "admin"})
    oauth = {"oauth": {"username": f"user-{mark}", "password": PASSWORD}}
    hmac = {"hmac": {"api_key": signing["api_key"], "secret_key": signing["secret_key"]}}
    credentials: dict[str, dict[str, Any]] = {"API key": {"api_key": client.target.key}, "OAuth": oauth, "HMAC": hmac}
    await _known_to_the_notifier(client, listener)
    app = web.Application()
    app.router.add_static("/", SAMPLES)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    remote = f"http://127.0.0.1:{runner.addresses[0][1]}/{INVOICE.name}"
    try:
        yield Setting(pipeline, client, remote, credentials, {**credentials, "API key": {"api_key": listener}}, tenant)
    finally:
        await runner.cleanup()


async def _known_to_the_notifier(client: Client, key: str) -> None:
    async def connects() -> bool:
        sockets = socketio.AsyncClient(reconnection=False)
        try:
            await sockets.connect(f"{client.target.notifier_url}?apiKey={key}", transports=["websocket"])
        except socketio.exceptions.ConnectionError:
            return False
        await sockets.disconnect()
        return True

    await eventually(connects, 10)


async def drive(setting: Setting, command: list[str], folder: Path, results: Results) -> None:
    """Run the program once per credential and note what it says of each method. Fails when a public method is not driven."""
    known: dict[str, str] = {}
    own = {"PATH": os.environ["PATH"]}
    for credential in setting.credentials:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(json.dumps(setting.given(credential, known)).encode() + b"\n")
        process.stdin.write_eof()
        public: list[str] = []
        try:
            async with asyncio.timeout(MOST_S):
                async for line in process.stdout:
                    said = json.loads(line)
                    known, public = {**said.get("known", {}), **known}, said.get("public", public)
                    if "listening" in said:
                        await publish_each_event(setting)
                    note(results, said, credential)
                errors = (await process.stderr.read()).decode()
                assert await process.wait() == 0, errors
        finally:
            if process.returncode is None:
                process.kill()
        driven = {method.partition("(")[0] for method in results.calls}
        assert public and set(public) <= driven, f"not driven: {set(public) - driven}"


async def run_guide(setting: Setting, command: list[str], folder: Path, language: str) -> str:
    """Run the migration guide's own lines in the client's environment, as a user does; what they print."""
    [block] = [b for b in blocks(GUIDE) if b.language == language]
    target = setting.pipeline.target()
    own = {
        "PATH": os.environ["PATH"], "STAGELINE_URL": target.url, "STAGELINE_NOTIFIER_URL": target.notifier_url, "STAGELINE_KEY": target.key,
    }  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, [*command, block.text], cwd=folder, env=own, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def note(results: Results, said: dict[str, Any], credential: str) -> None:
    """What a program says of a method. Without a connection it says the same of every method of its real-time client."""
    if said.get("method") == OWN:
        for method in [m for m in results.calls if m.startswith(f"{OWN}.")]:
            results.add(method, credential, said["error"])
    elif "method" in said:
        results.add(said["method"], credential, said["error"])


async def publish_each_event(setting: Setting) -> None:
    """One event of each of the 24 types in the listeners' company, as an outside producer publishes it."""
    producer = await make_producer(setting.pipeline.access, "clients")
    job_id = clock.new_root()
    for message in examples().values():
        if isinstance(message, AlfredEvent):
            record = to_record(_of(message, setting.tenant, job_id), "/test")
            topic = f"{message.event.event_type.partition('_')[0]}.events"
            await producer.send_and_wait(topic, record.value, record.key, headers=list(record.headers))
    await producer.stop()


def _of(message: AlfredEvent[Any], tenant: str, job_id: str) -> Message:
    own = {"company_id": tenant, "company_name": tenant, "job_id": job_id, "file_id": job_id, "file_log_id": job_id}
    fields = {name: value for name, value in own.items() if name in type(message.event).model_fields}
    event = message.event.model_copy(update=fields)
    return message.model_copy(update={"event": event, "event_id": derived(job_id, message.event.event_name)})
