"""Looks names up in threads of its own: a name server that does not answer keeps a thread for half a minute."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUPS_AT_ONCE = 64
"""Names that are looked up at a time. A connector looks each name up once at a time, so one slow name takes one of them."""


class OwnThreadsResolver(AbstractResolver):
    """A resolver of aiohttp. Its default shares a few threads with all other blocking work of the process."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="resolver")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The addresses of `host`. Raises `OSError` when it has none."""

        def look_up() -> list[tuple[int, int, str]]:
            infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            # Numeric, with the scope of a link-local address.
            return [(kind, proto, socket.getnameinfo(address, _NUMERIC)[0]) for kind, _, proto, _, address in infos]

        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=proto, flags=_FLAGS)
            for kind, proto, address in found
        ]

    async def close(self) -> None:
        """Start no more lookups. Those in progress end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_FLAGS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
