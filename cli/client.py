"""HTTP client of the commands. It finds the pipeline, sends the key, and retries safe requests while a service restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp

from cli.progress import progress
from cli.target import CliError, Target, find_target, route
from shared.web.form_data import FormData

PATIENCE_S = 60.0
"""How long a call waits for a service that restarts."""
FIRST_S = 5.0
"""How long it waits for an address that has not answered yet and that nothing here restarts."""


class Client:
    """One connection pool for the gateway and the notifier. Use it as an async context manager."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._answered = target.restarts
        self._notifier_url = target.notifier_url
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

        Names in `path` come from `route`. Retries for up to `PATIENCE_S` while the service is unreachable or answers 503, and for
        `FIRST_S` while the address has never answered. `form` builds the multipart body of one attempt; resources that it enters into
        its stack are closed after that attempt.
        """
        url = (await self.notifier_url() if notifier else self.target.url) + path
        started = time.monotonic()
        while True:
            try:
                # aiohttp closes a streamed file only if it has begun to send it.
                with contextlib.ExitStack() as opened:
                    body = form(opened) if form else None
                    async with self.http.request(method, url, data=body, **more) as answer:
                        if answer.status != 503:
                            self._answered = True
                            return await self._read(answer)
                        self._answered = self._answered or answer.content_type.endswith("json")
                        reason = message_of(answer.status, answer.reason or "", await answer.read())
            except aiohttp.InvalidURL:
                raise CliError(f"{url} is not an address", 2) from None
            except (aiohttp.ClientConnectorDNSError, aiohttp.ClientSSLError) as error:
                raise CliError(f"{url} cannot be reached: {error}", 3) from None
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() - started > (PATIENCE_S if self._answered else min(FIRST_S, PATIENCE_S)):
                raise CliError(f"{url} cannot be reached: {reason}", 3)
            await asyncio.sleep(0.5)

    async def notifier_url(self) -> str:
        """Base URL of the notifier: as configured, else as the gateway names it, else the gateway's own."""
        if not self._notifier_url:
            try:
                about = await self.call("GET", "/v1/about")
                self._notifier_url = (about.get("notifier_url") if isinstance(about, dict) else None) or self.target.url
            except CliError as error:
                if error.code == 3:
                    raise
                self._notifier_url = self.target.url
        return self._notifier_url

    async def pages(self, path: str, parameters: list[tuple[str, str]], limit: int) -> list[dict[str, Any]]:
        """At most `limit` records of a list that has `next` cursors, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < limit:
            page = [("limit", str(min(200, limit - len(found)))), *([("cursor", cursor)] if cursor else [])]
            answer = await self.call("GET", path, params=[*parameters, *page])
            found += answer["result"]
            cursor = answer["next"]
            if cursor is None:
                break
        return found

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

    async def save(self, path: str, target: Path) -> None:
        """Download into a file, which appears when it is whole. Raises `CliError`."""
        part = target.with_name(f".{target.name}.part")
        done = 0
        try:
            with part.open("wb") as stream, progress("downloaded", "KiB") as report:
                async for chunk in self.download(path, 1 << 20):
                    stream.write(chunk)
                    done += len(chunk)
                    report(done >> 10, None)
            part.replace(target)
        except OSError as error:
            raise CliError(f"{target}: {error.strerror or error}", 1) from None
        finally:
            part.unlink(missing_ok=True)

    async def _read(self, answer: aiohttp.ClientResponse) -> Any:
        if answer.status >= 400:
            raise refused(answer.status, answer.reason or "", await answer.read())
        if answer.status == 204:
            return None
        if answer.content_type == "text/html":
            raise CliError(f"{answer.url} is not Stageline: it answered with a page of HTML", 3)
        return await answer.json() if answer.content_type.endswith("json") else await answer.text()

    async def events(self, start: str, types: str, job_id: str | None, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Server-sent events as `{type, data}`. With `follow`, reconnects and resumes after the last event received.

        Without it, ends when the stream has been idle for 5 s. Raises `CliError`: refused, or unreachable without `follow`.
        """
        # Imported here because only this command needs them.
        import httpx
        from httpx_sse import SSEError, aconnect_sse

        url = await self.notifier_url() + "/events/stream"
        query = {"start": start, "types": types, **({"job_id": job_id} if job_id else {})}
        headers = {"authorization": f"Bearer {self.target.key}"}
        # The system's authorities, as for all other requests, instead of those that httpx brings along.
        trust = ssl.create_default_context()
        timeout = httpx.Timeout(5, read=40 if follow else 5)
        async with httpx.AsyncClient(verify=trust, timeout=timeout, trust_env=False) as http:
            while True:
                connected = False
                try:
                    async with aconnect_sse(http, "GET", url, params=query, headers=headers) as source:
                        if source.response.status_code != 200:
                            body = await source.response.aread()
                            raise refused(source.response.status_code, source.response.reason_phrase, body)
                        connected = True
                        async for item in source.aiter_sse():
                            headers |= {"last-event-id": item.id} if item.id else {}
                            if item.event not in ("hello", "resync"):
                                yield {"type": item.event, "data": item.json()}
                except httpx.ReadTimeout:
                    if not follow and not connected:
                        raise CliError(f"the notifier at {url} does not answer: no event was read", 3) from None
                    if not follow:
                        return  # the stream is idle, so every retained event has been read
                except (httpx.TransportError, SSEError) as error:
                    if not follow:
                        raise CliError(f"{url} cannot be reached: {error or type(error).__name__}", 3) from None
                await asyncio.sleep(0.5)


def refused(status: int, reason: str, body: bytes) -> CliError:
    """The error for a response that is no success, with the server's own message where it has one.

    Its code: 2 for a request that is wrong, 4 for what is not there, 3 for a proxy without a service, 1 for a fault of the
    service, 5 for all else.
    """
    codes = {400: 2, 404: 4, 405: 2, 410: 4, 422: 2, 502: 3, 503: 3, 504: 3}
    return CliError(message_of(status, reason, body), codes.get(status, 1 if status >= 500 else 5))


def message_of(status: int, reason: str, body: bytes) -> str:
    """`message` or `detail` of a JSON body, else the status line."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    fields = found if isinstance(found, dict) else {}
    return str(fields.get("message") or fields.get("detail") or f"{status} {reason}")


__all__ = ["CliError", "Client", "Target", "find_target", "message_of", "refused", "route"]
