"""HTTP client of the commands. It finds the pipeline, sends the key, and retries safe requests while a service restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from shared.web.form_data import FormData

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
        form: Callable[[contextlib.ExitStack], FormData] | None = None,
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
                        reason = message_of(answer.status, answer.reason or "", await answer.read())
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                raise CliError(f"{url} cannot be reached: {reason}", 3)
            await asyncio.sleep(0.5)

    async def download(self, path: str, chunk: int) -> AsyncIterator[bytes]:
        """The body of a GET in pieces of at most `chunk` bytes. Raises `CliError`: refused, unreachable, or broken off."""
        url = self.target.url + path
        try:
            async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)) as answer:
                if answer.status >= 400:
                    raise refused(answer.status, answer.reason or "", await answer.read())
                async for piece in answer.content.iter_chunked(chunk):
                    yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CliError(f"{url} cannot be read: {error or type(error).__name__}", 3) from None

    async def _read(self, answer: aiohttp.ClientResponse) -> Any:
        if answer.status >= 400:
            raise refused(answer.status, answer.reason or "", await answer.read())
        if answer.status == 204:
            return None
        return await answer.json() if answer.content_type.endswith("json") else await answer.text()

    async def events(self, start: str, types: str, job_id: str | None, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Server-sent events as `{type, data}`. With `follow`, reconnects and resumes after the last event received.

        Without it, ends when the stream has been idle for 5 s. Raises `CliError`: refused, or unreachable without `follow`.
        """
        # Imported here because only this command needs them.
        import httpx
        from httpx_sse import aconnect_sse

        url = self.target.notifier_url + "/events/stream"
        query = {"start": start, "types": types, **({"job_id": job_id} if job_id else {})}
        headers = {"authorization": f"Bearer {self.target.key}"}
        # The system's authorities, as for all other requests, instead of those that httpx brings along.
        trust = ssl.create_default_context()
        timeout = httpx.Timeout(5, read=40 if follow else 5)
        async with httpx.AsyncClient(verify=trust, timeout=timeout, trust_env=False) as http:
            while True:
                try:
                    async with aconnect_sse(http, "GET", url, params=query, headers=headers) as source:
                        if source.response.status_code != 200:
                            body = await source.response.aread()
                            raise refused(source.response.status_code, source.response.reason_phrase, body)
                        async for item in source.aiter_sse():
                            headers |= {"last-event-id": item.id} if item.id else {}
                            if item.event not in ("hello", "resync"):
                                yield {"type": item.event, "data": item.json()}
                except httpx.ReadTimeout:
                    if not follow:
                        return  # the stream is idle, so every retained event has been read
                except httpx.TransportError as error:
                    if not follow:
                        raise CliError(f"{url} cannot be reached: {error or type(error).__name__}", 3) from None
                await asyncio.sleep(0.5)


def refused(status: int, reason: str, body: bytes) -> CliError:
    """The error for a response with a status of 400 or more, with the server's own message where it has one."""
    return CliError(message_of(status, reason, body), 4 if status == 404 else 5)


def message_of(status: int, reason: str, body: bytes) -> str:
    """`message` or `detail` of a JSON body, else the status line."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    fields = found if isinstance(found, dict) else {}
    return str(fields.get("message") or fields.get("detail") or f"{status} {reason}")
