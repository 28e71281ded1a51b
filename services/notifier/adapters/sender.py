"""Sends signed POSTs: no redirects, no proxy, no internal addresses, at most 16 KiB of response."""

from __future__ import annotations

import ssl
import time

import aiohttp

from services.notifier.core.delivery import Result, retry_after_s
from services.notifier.core.signature import sign, webhook_id
from services.notifier.ports import Delivery
from shared import clock
from shared.net.address_guard import check_url, failure_in_words, guarded_session, refusal_of
from shared.net.networks import Networks
from shared.version import USER_AGENT

MAX_RESPONSE_BYTES = 16_384


class HttpSender:
    """A `Sender` and `WebhookProbe` on aiohttp. `timeout_s` bounds a whole attempt; `trusted` lists allowed internal networks."""

    def __init__(self, timeout_s: float, trusted: Networks) -> None:
        self.trusted = trusted
        self.session = guarded_session(trusted, timeout_s, 5.0)

    async def send(self, delivery: Delivery, timestamp: int) -> Result:
        started = time.monotonic()
        try:
            check_url(delivery.url, self.trusted)
            result = await self._post(delivery.url, delivery.body, _headers(delivery, timestamp))
        except Exception as error:  # noqa: BLE001 - every network error is the attempt's result
            result = _failed(error)
        return Result(result.status_code, result.error, result.detail, result.retry_after_s, (time.monotonic() - started) * 1000)

    async def ask(self, url: str, body: bytes) -> Result:
        """See `WebhookProbe`."""
        try:
            check_url(url, self.trusted)
            return await self._post(url, body, {"content-type": "application/json", "user-agent": USER_AGENT})
        except Exception as error:  # noqa: BLE001 - every network error is the result
            return _failed(error)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Result:
        async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            text = (await response.content.read(MAX_RESPONSE_BYTES)).decode("utf-8", "replace")
            after = retry_after_s(response.headers.get("retry-after", ""), clock.unix())
            return Result(response.status, None, text[:1000] or None, after)

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()


def _headers(delivery: Delivery, timestamp: int) -> dict[str, str]:
    message_id = webhook_id(delivery.event_id)
    # Receivers accept any one that fits (Standard Webhooks, "rotating secrets").
    secrets = (delivery.secret, *delivery.former_secrets)
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp, delivery.body) for secret in secrets),
        "stageline-event-type": delivery.event_type,
        "stageline-attempt": str(delivery.attempt),
    }
    if delivery.trace:
        headers["traceparent"] = delivery.trace
    return headers


def _failed(error: BaseException) -> Result:
    refused = refusal_of(error)
    if refused is not None:
        return Result(error="ssrf_refused", detail=str(refused))
    if isinstance(error, TimeoutError):
        return Result(error="timeout", detail=failure_in_words(error))
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
    return Result(error=name, detail=failure_in_words(error))
