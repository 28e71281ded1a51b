"""Reads and writes files at URLs that callers name. Internal addresses are refused, also after a redirect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp

from services.ingest.core.file_names import clean_name
from shared.net.address_guard import AddressRefused, check_url, failure_in_words, guarded_session, refusal_of
from shared.net.networks import Networks
from shared.objects.object_store import StoredObject, TenantObjects, TooLarge

MAX_REDIRECTS = 5
_REDIRECT = (301, 302, 303, 307, 308)


class RemoteFailed(Exception):
    """Reading from or writing to the URL failed; the text has the reason."""


class RemoteFiles:
    """An HTTP client for callers' URLs. Only the internal networks in `trusted` are allowed."""

    def __init__(self, trusted: Networks) -> None:
        self.trusted = trusted
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """The connection pool, opened by the first use."""
        if self._session is None:
            self._session = guarded_session(self.trusted, 120, 10, 30)
        return self._session

    async def fetch(
        self,
        objects: TenantObjects,
        url: str,
        limit: int,
        through: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] | None = None,
    ) -> tuple[StoredObject, str, str]:
        """Store the file at `url` among `objects`, of at most `limit` bytes; its chunks pass `through`, and what that raises is passed on. Returns the
        object, its name and its media type. Raises `RemoteFailed`, `TooLarge`."""
        for _ in range(MAX_REDIRECTS + 1):
            try:
                check_url(url, self.trusted)
                async with self.session().get(url, allow_redirects=False) as answer:
                    if answer.status in _REDIRECT and "location" in answer.headers:
                        url = urljoin(url, answer.headers["location"])
                        continue
                    if answer.status != 200:
                        raise RemoteFailed(f"{url}: answered {answer.status}")
                    if (answer.content_length or 0) > limit:
                        raise TooLarge("too_large", f"{answer.content_length} bytes; the limit is {limit}")
                    chunks = answer.content.iter_chunked(256 * 1024)
                    stored = await objects.put_stream(through(chunks) if through else chunks, limit)
                    name = clean_name(unquote(urlsplit(url).path)) or "document"
                    return stored, name, answer.content_type[:200]
            except (AddressRefused, ValueError, aiohttp.ClientError, TimeoutError, OSError) as error:
                raise RemoteFailed(f"{url}: {why(error)}"[:1000]) from None
        raise RemoteFailed(f"{url}: redirects more than {MAX_REDIRECTS} times")

    async def store(self, method: str, url: str, size: int, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """Send `size` bytes to `url` by PUT or POST. Raises `RemoteFailed`."""
        try:
            check_url(url, self.trusted)
            headers = {"content-type": media_type, "content-length": str(size)}
            async with self.session().request(method, url, data=chunks, headers=headers, allow_redirects=False) as answer:
                if not 200 <= answer.status < 300:
                    raise RemoteFailed(f"{url}: answered {answer.status}")
        except (AddressRefused, ValueError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RemoteFailed(f"{url}: {why(error)}"[:1000]) from None

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()


def why(error: BaseException) -> str:
    """The reason in words, without an address that the name resolved to."""
    refused = refusal_of(error)
    if refused is not None:
        return f"the address is not allowed: {refused}"
    return failure_in_words(error) if isinstance(error, (OSError, aiohttp.ClientError)) else str(error)
