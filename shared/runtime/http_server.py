"""The HTTP server of a service process: uvicorn on a socket of ours, stopped by the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn

from shared.errors import Stop
from shared.web.connections import ConnectionLimit

OWN_FILES = 256
"""Open files that a service needs beside its HTTP connections: databases, Kafka, objects."""


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers, so that the host decides what stops first."""

    async def main_loop(self) -> None:
        # uvicorn checks ten times a second whether it should stop. Once is enough, and saves CPU time in an idle service.
        while not await self.on_tick(0):  # noqa: ASYNC110 - the flag is uvicorn's own
            await asyncio.sleep(1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The host handles signals.
        yield


def connection_limit(total: int, per_address: int) -> ConnectionLimit:
    """The limit of open connections, as far as the system lets this process open files. Raises the process's own limit to the system's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    files = total if soft == resource.RLIM_INFINITY else max(soft - OWN_FILES, 1)
    return ConnectionLimit(min(total, files), per_address)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to `host` and `port`; port 0 takes a free one. Raises `Stop` with the address when it is in use."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Stop("address_in_use", f"{host}:{port}: {error.strerror}") from error
    return sock


def forwarding_proxies(trusted: Sequence[Any]) -> list[str] | str:
    """Proxies whose `X-Forwarded-*` headers uvicorn believes: the `trusted` networks, else those of its own variable, else none."""
    return [str(network) for network in trusted] or os.environ.get("FORWARDED_ALLOW_IPS", "")
