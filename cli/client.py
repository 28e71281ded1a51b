"""HTTP client of the commands. It finds the pipeline, sends the key, and retries safe requests while a service restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 60.0


class CliError(Exception):
    """A sentence for the user, and the exit code: 1 failed, 2 wrong usage, 3 unreachable, 4 not found, 5 refused."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Target:
    """Base URLs of the gateway and the notifier, and the API key."""

    url: str
    notifier_url: str
    key: str


def find_target(data_dir: Path) -> Target:
    """The target from `STAGELINE_URL`, `STAGELINE_NOTIFIER_URL` and `STAGELINE_KEY`, else the pipeline that runs in `data_dir`.

    Raises `CliError` when there is no pipeline (code 3) or no key (code 5).
    """
    url, notifier, key = (os.environ.get(f"STAGELINE_{n}") for n in ("URL", "NOTIFIER_URL", "KEY"))
    state_file = data_dir / "run" / "state.json"
    state = json.loads(state_file.read_text()) if state_file.exists() else {}
    url = url or state.get("url")
    notifier = notifier or state.get("notifier_url") or url
    if key is None and state.get("key_file"):
        key = Path(state["key_file"]).read_text().strip()
    if not url or not notifier:
        raise CliError(f"no pipeline runs in {data_dir}: start one with `stageline up`, or set STAGELINE_URL", 3)
    if not key:
        raise CliError("no key: set STAGELINE_KEY", 5)
    return Target(url, notifier, key)


class Client:
    """One connection pool for the gateway and the notifier. Use it as an async context manager."""

    def __init__(self, target: Target) -> None:
        self.target = target
        headers = {"authorization": f"Bearer {target.key}"}
        self.http = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=120, sock_connect=5))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        notifier: bool = False,
        form: Callable[[contextlib.ExitStack], aiohttp.FormData] | None = None,
        **more: Any,
    ) -> Any:
        """The decoded body of the response: JSON, text, or None for 204. Raises `CliError`.

        Retries for up to `PATIENCE_S` while the service is unreachable or answers 503. `form` builds the multipart body of one
        attempt; resources that it enters into its stack are closed after that attempt.
        """
        url = (self.target.notifier_url if notifier else self.target.url) + path
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                # aiohttp closes a streamed file only if it has begun to send it.
                with contextlib.ExitStack() as opened:
                    body = form(opened) if form else None
                    async with self.http.request(method, url, data=body, **more) as answer:
                        if answer.status != 503:
                            return await self._read(answer)
                        reason = (await self._message(answer)) or "503"
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                raise CliError(f"{url} cannot be reached: {reason}", 3)
            await asyncio.sleep(0.5)

    async def _read(self, answer: aiohttp.ClientResponse) -> Any:
        if answer.status >= 400:
            raise CliError(await self._message(answer), 4 if answer.status == 404 else 5)
        if answer.status == 204:
            return None
        return await answer.json() if answer.content_type.endswith("json") else await answer.text()

    async def _message(self, answer: aiohttp.ClientResponse) -> str:
        try:
            body = await answer.json(content_type=None)
        except ValueError:
            return f"{answer.status} {answer.reason}"
        return str(body.get("message") or body.get("detail") or f"{answer.status} {answer.reason}")

    async def events(self, start: str, types: str, job_id: str | None, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Server-sent events as `{type, data}`. With `follow`, reconnects and resumes after the last event received."""
        cursor: str | None = None
        query = {"start": start, "types": types, **({"job_id": job_id} if job_id else {})}
        while True:
            headers = {"last-event-id": cursor} if cursor else {}
            try:
                async with self.http.get(
                    self.target.notifier_url + "/events/stream", params=query, headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=40 if follow else 5),
                ) as answer:  # fmt: skip
                    if answer.status != 200:
                        await self._read(answer)
                    async for item in _parse(answer.content):
                        cursor = item.get("id") or cursor
                        if item["event"] not in ("hello", "resync"):
                            yield {"type": item["event"], "data": json.loads(item["data"])}
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                if not follow:
                    return
                await asyncio.sleep(0.5)


async def _parse(stream: aiohttp.StreamReader) -> AsyncIterator[dict[str, str]]:
    item: dict[str, str] = {}
    while True:
        raw = await stream.readuntil(b"\n") if not stream.at_eof() else b""
        if not raw:
            return
        line = raw.decode().rstrip("\n")
        if not line and "data" in item:
            yield item
            item = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            item[name] = value
