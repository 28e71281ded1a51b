"""A broker that speaks enough of Kafka's protocol for one member of one group, with scripted answers about committed offsets."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocol, ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import ApiVersionResponse_v0
from aiokafka.protocol.commit import OffsetFetchRequest_v3, OffsetFetchResponse_v3
from aiokafka.protocol.coordination import FindCoordinatorRequest_v0, FindCoordinatorResponse_v0
from aiokafka.protocol.fetch import FetchRequest_v4, FetchResponse_v4
from aiokafka.protocol.group import (
    HeartbeatRequest_v0,
    HeartbeatResponse_v0,
    JoinGroupRequest_v0,
    JoinGroupResponse_v0,
    LeaveGroupRequest_v0,
    LeaveGroupResponse_v0,
    SyncGroupRequest_v0,
    SyncGroupResponse_v0,
)
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1
from aiokafka.protocol.offset import OffsetRequest_v1, OffsetResponse_v1
from aiokafka.protocol.transaction import InitProducerIdRequest_v0, InitProducerIdResponse_v0

REQUESTS: tuple[Any, ...] = (
    FetchRequest_v4, OffsetRequest_v1, MetadataRequest_v1, OffsetFetchRequest_v3, FindCoordinatorRequest_v0, JoinGroupRequest_v0,
    SyncGroupRequest_v0, HeartbeatRequest_v0, LeaveGroupRequest_v0, InitProducerIdRequest_v0,
)  # fmt: skip
"""What the broker understands, in one version each."""
TOPIC, PARTITIONS = "job.events", 3
Answer = tuple[list[tuple[str, list[tuple[int, int, str, int]]]], int]
"""Topics with (partition, offset, metadata, error), and the error of the group."""


def committed(offset: int) -> Answer:
    """`offset` is committed for every partition."""
    return [(TOPIC, [(partition, offset, "", 0) for partition in range(PARTITIONS)])], 0


class FakeCoordinator:
    """Node 0, coordinator of every group. It gives the answers in `offsets` one after the other, and the last one again and again."""

    def __init__(self, *offsets: Answer) -> None:
        self.offsets = list(offsets)
        self.port = 0
        self.lookups = 0
        """How often a client asked for the coordinator."""
        self.resets: list[Any] = []
        """Requests for the beginning or the end of partitions."""
        self.joins: list[list[str]] = []
        """The assignment strategies in each request to join."""
        self._held = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen during an `async with` block; yields the bootstrap server."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            self._held.set()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                body = BytesIO(await reader.readexactly(size))
                key, _, correlation, name = struct.unpack(">hhih", body.read(10))
                body.read(max(name, 0))
                answer = struct.pack(">i", correlation) + (await self._answer(key, body)).encode()
                writer.write(struct.pack(">i", len(answer)) + answer)
        writer.close()

    async def _answer(self, key: int, body: BytesIO) -> Any:
        if key == 18:
            return ApiVersionResponse_v0(0, [(18, 0, 0), *((r.API_KEY, r.API_VERSION, r.API_VERSION) for r in REQUESTS)])
        kind = {request.API_KEY: request for request in REQUESTS}[key]
        return await getattr(self, f"_{kind.__name__.partition('Request')[0].lower()}")(kind.decode(body))

    async def _metadata(self, request: Any) -> Any:
        partitions = [(0, partition, 0, [0], [0]) for partition in range(PARTITIONS)]
        return MetadataResponse_v1([(0, "127.0.0.1", self.port, None)], 0, [(0, TOPIC, False, partitions)])

    async def _findcoordinator(self, request: Any) -> Any:
        self.lookups += 1
        return FindCoordinatorResponse_v0(0, 0, "127.0.0.1", self.port)

    async def _joingroup(self, request: Any) -> Any:
        self.joins.append([name for name, _ in request.group_protocols])
        protocol, subscription = request.group_protocols[0]
        return JoinGroupResponse_v0(0, 1, protocol, "m", "m", [("m", subscription)])

    async def _syncgroup(self, request: Any) -> Any:
        assigned = ConsumerProtocol.ASSIGNMENT(0, [(TOPIC, list(range(PARTITIONS)))], b"")
        assert isinstance(assigned, ConsumerProtocolMemberAssignment)
        return SyncGroupResponse_v0(0, assigned.encode())

    async def _heartbeat(self, request: Any) -> Any:
        return HeartbeatResponse_v0(0)

    async def _leavegroup(self, request: Any) -> Any:
        return LeaveGroupResponse_v0(0)

    async def _initproducerid(self, request: Any) -> Any:
        return InitProducerIdResponse_v0(0, 0, 1, 0)

    async def _offsetfetch(self, request: Any) -> Any:
        return OffsetFetchResponse_v3(0, *(self.offsets.pop(0) if self.offsets[1:] else self.offsets[0]))

    async def _offset(self, request: Any) -> Any:
        self.resets.append(request)
        return OffsetResponse_v1([(topic, [(partition, 0, -1, 0) for partition, _ in asked]) for topic, asked in request.topics])

    async def _fetch(self, request: Any) -> Any:
        # A long poll: nothing arrives. Later requests of the connection wait for its end.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._held.wait(), 0.05)
        return FetchResponse_v4(0, [])
