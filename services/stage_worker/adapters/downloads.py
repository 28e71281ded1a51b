"""Downloads of remote files: guarded against internal addresses, counted and hashed while they stream in."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp
import obstore
from obstore.exceptions import BaseError, NotFoundError

from services.stage_worker.core.document_fault import DocumentFault
from shared.errors import Outcome
from shared.net.address_guard import AddressRefused, check_url, failure_in_words, guarded_session, refusal_of
from shared.net.networks import Networks
from shared.objects.containers import SCHEME, Containers, parse_container_url
from shared.objects.object_store import Objects, StoredObject, TooLarge

if TYPE_CHECKING:
    from obstore import GetResult

log = logging.getLogger(__name__)
MAX_REDIRECTS = 5
_REDIRECT = (301, 302, 303, 307, 308)


class GuardedDownloads:
    """`Downloads` over HTTP and from containers. `limit` in bytes; `trusted` internal networks may be read."""

    def __init__(self, objects: Objects, limit: int, trusted: Networks, containers: Containers | None = None) -> None:
        self.objects = objects
        self.limit = limit
        self.trusted = trusted
        self.containers = containers or {}
        self._session: aiohttp.ClientSession | None = None

    async def fetch_file(self, tenant: str, job_id: str, url: str) -> tuple[StoredObject, str]:
        if url.startswith(SCHEME):
            return await self._fetch_from_container(tenant, job_id, url)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                check_url(url, self.trusted)
                found = await self._download(tenant, job_id, url)
            except AddressRefused as error:
                raise DocumentFault("ssrf_refused", f"The address is not allowed: {error}") from None
            except TooLarge as error:
                raise DocumentFault("too_large", f"The remote file is too large: {error}") from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _unreachable(error) from None
            if not isinstance(found, str):
                return found
            url = found
        raise DocumentFault("too_many_redirects", f"The address redirects more than {MAX_REDIRECTS} times.")

    async def _fetch_from_container(self, tenant: str, job_id: str, url: str) -> tuple[StoredObject, str]:
        name, path = parse_container_url(url)
        container = self.containers.get(name)
        if container is None or not container.open_to(tenant):
            raise DocumentFault("container_unknown", f"There is no container {name} that this tenant may read from.")
        try:
            found = await obstore.get_async(container.store(), path)
            if found.meta["size"] > self.limit:
                raise TooLarge("too_large", f"{found.meta['size']} bytes; the limit is {self.limit}")
            stored = await self.objects.of(tenant, job_id).put_stream(_chunks(found), self.limit)
        except TooLarge as error:
            raise DocumentFault("too_large", f"The remote file is too large: {error}") from None
        except (NotFoundError, FileNotFoundError):
            raise DocumentFault("source_refused", f"Container {name} has no file {path}.") from None
        except (BaseError, OSError) as error:
            # The error text names servers and settings. It belongs in the operator's log, not in the job's error.
            log.warning("container could not be read", extra={"container": name, "reason": str(error)[:1000]})
            raise DocumentFault("source_unavailable", f"Container {name} could not be read.", True) from None
        return stored, "application/octet-stream"

    async def _download(self, tenant: str, job_id: str, url: str) -> tuple[StoredObject, str] | str:
        if self._session is None:
            self._session = guarded_session(self.trusted, 110, 10, 30, auto_decompress=False)
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status in _REDIRECT and "location" in response.headers:
                return urljoin(url, response.headers["location"])
            if response.status != 200:
                temporary = response.status in (408, 425, 429) or response.status >= 500
                code = "source_unavailable" if temporary else "source_refused"
                raise DocumentFault(code, f"The source answered {response.status} {response.reason or ''}.", temporary)
            if (response.content_length or 0) > self.limit:
                raise TooLarge("too_large", f"{response.content_length} bytes; the limit is {self.limit}")
            stored = await self.objects.of(tenant, job_id).put_stream(response.content.iter_chunked(256 * 1024), self.limit)
            return stored, response.content_type[:200]

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _chunks(found: GetResult) -> AsyncIterator[bytes]:
    async for chunk in found.stream(min_chunk_size=256 * 1024):
        yield bytes(chunk)


def _unreachable(error: BaseException) -> DocumentFault:
    refused = refusal_of(error)
    if refused is not None:
        return DocumentFault("ssrf_refused", f"The address is not allowed: {refused}")
    if isinstance(error, Outcome):
        raise error
    return DocumentFault("source_unavailable", f"The source cannot be reached: {failure_in_words(error)}", retriable=True)
