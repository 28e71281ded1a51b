"""Sends signed POSTs: no redirects, no proxy, no internal addresses, at most 16 KiB of response."""

from __future__ import annotations

import asyncio
import ssl
import time

import aiohttp

from services.notifier.core.delivery import Result
from services.notifier.core.signature import sign
from services.notifier.ports import Delivery
from shared.net.address_guard import AddressRefused, check_url, guarded_connector
from shared.net.networks import Networks

MAX_RESPONSE_BYTES = 16_384


class HttpSender:
    """A `Sender` and `WebhookProbe` on aiohttp. `timeout_s` bounds a whole attempt; `trusted` lists allowed internal networks."""

    def __init__(self, timeout_s: float, trusted: Networks) -> None:
        self.trusted = trusted
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s))
        self.session = aiohttp.ClientSession(
            connector=guarded_connector(trusted, limit=200), timeout=timeout, trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )  # fmt: skip

    async def send(self, delivery: Delivery, timestamp: int) -> Result:
        headers = {
            "content-type": "application/json",
            "user-agent": "Stageline/0.1",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(delivery.secret, delivery.event_id, timestamp, delivery.body),
            "stageline-event-type": delivery.event_type,
            "stageline-attempt": str(delivery.attempt),
        }
        if delivery.trace:
            headers["traceparent"] = delivery.trace
        started = time.monotonic()
        try:
            check_url(delivery.url, self.trusted)
            result = await self._post(delivery.url, delivery.body, headers)
        except Exception as error:  # noqa: BLE001 - every network error is the attempt's result
            result = _failed(error)
        return Result(result.status_code, result.error, result.detail, result.retry_after_s, (time.monotonic() - started) * 1000)

    async def ask(self, url: str, body: bytes) -> Result:
        """See `WebhookProbe`."""
        try:
            check_url(url, self.trusted)
            return await self._post(url, body, {"content-type": "application/json", "user-agent": "Stageline/0.1"})
        except Exception as error:  # noqa: BLE001 - every network error is the result
            return _failed(error)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Result:
        async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            text = (await response.content.read(MAX_RESPONSE_BYTES)).decode("utf-8", "replace")
            after = response.headers.get("retry-after", "")
            return Result(response.status, None, text[:1000] or None, float(after) if after.isdigit() else None)

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()


def _failed(error: BaseException) -> Result:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return Result(error="ssrf_refused", detail=str(cause))
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Result(error="timeout", detail="no answer in time")
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (aiohttp.ClientConnectorDNSError, "dns_error"),
        (aiohttp.ClientConnectorCertificateError, "tls_error"),
        (aiohttp.ClientSSLError, "tls_error"),
        (ssl.SSLError, "tls_error"),
        (aiohttp.ClientConnectorError, "connection_refused"),
        (aiohttp.ClientError, "connection_lost"),
        (OSError, "connection_lost"),
    )
    name = next((label for kind, label in kinds if isinstance(error, kind)), "sender_error")
    return Result(error=name, detail=f"{type(error).__name__}: {error}"[:1000])
