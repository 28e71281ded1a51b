"""The containers' health checks, as written in their files: a server that does not answer is unhealthy, also if it listens."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from tests.servers import free_port

ROOT = Path(__file__).parents[2]


async def run(*command: str, port: int) -> tuple[int, str]:
    """Exit code and output of a check."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "STAGELINE_PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@asynccontextmanager
async def answering(status: str, body: str) -> AsyncIterator[int]:
    """The port of a server that gives every request this answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /health/ready HTTP/1.1\r\n")
        writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """The port of a server that listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


async def test_a_service_is_healthy_when_it_is_ready_and_gives_the_reason_otherwise() -> None:
    check = ["bash", str(ROOT / "deploy" / "serve"), "health"]
    async with answering("200 OK", '{"status":"ok"}') as port:
        assert await run(*check, port=port) == (0, '{"status":"ok"}\n')
    async with answering("503 Service Unavailable", '{"reasons":{"kafka":"no answer"}}') as port:
        code, said = await run(*check, port=port)
        assert code != 0 and said == '{"reasons":{"kafka":"no answer"}}\n'
    assert (await run(*check, port=free_port()))[0] != 0
    async with silent() as port:
        assert (await run(*check, port=port))[0] != 0


@pytest.mark.kafka
async def test_a_broker_is_healthy_when_it_answers(kafka_url: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    kind, *check = compose["services"]["kafka"]["healthcheck"]["test"]
    assert kind == "CMD" and "localhost/9092" in check[-1]

    def at(port: int) -> list[str]:
        # Compose turns `$$` into `$`.
        return [*check[:-1], check[-1].replace("$$", "$").replace("localhost/9092", f"127.0.0.1/{port}")]

    port = int(kafka_url.rpartition(":")[2])
    assert await run(*at(port), port=port) == (0, "")
    assert (await run(*at(free_port()), port=port))[0] != 0
    async with silent() as port:
        assert (await run(*at(port), port=port))[0] != 0
