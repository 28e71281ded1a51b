"""The HTTP server of a service process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from shared.errors import Stop


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the host stops the consumers first."""

    async def main_loop(self) -> None:
        # uvicorn looks for its end ten times a second; once is enough, and an idle service should be idle.
        while not await self.on_tick(0):  # noqa: ASYNC110 - the flag is uvicorn's own
            await asyncio.sleep(1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the host's: it stops the consumers before the HTTP server.
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `Stop` with the address when it is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Stop("address_in_use", f"{host}:{port}: {error.strerror}") from error
    return sock
