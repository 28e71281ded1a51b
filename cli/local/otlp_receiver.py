"""A small OTLP/HTTP receiver that keeps spans in memory, for the demo's trace and for tests."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span. Ids in hex, times in nanoseconds since the epoch; `kind` as in the protocol (2 server … 5 consumer)."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]

    @property
    def duration_ms(self) -> float:
        """Length in milliseconds."""
        return (self.end - self.start) / 1e6


class OtlpReceiver:
    """Listens on a free loopback port and collects spans in `spans`."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.endpoint = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Start listening and set `endpoint`, the value for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            service = next((a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), "")
            for scope in resource.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")

    async def _metrics(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    def trace_of_job(self, job_id: str) -> list[ReceivedSpan]:
        """All spans of the trace in which the job was made, by start time. Questions about a job have traces of their own, later."""
        first = min((s for s in self.spans if s.attributes.get("job.id") == job_id), key=lambda s: s.start, default=None)
        return sorted((s for s in self.spans if first and s.trace_id == first.trace_id), key=lambda s: s.start)


def _span(service: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        service, span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        span.start_time_unix_nano, span.end_time_unix_nano, span.status.code == 2,
        {a.key: _value(a.value) for a in span.attributes}, tuple((li.trace_id.hex(), li.span_id.hex()) for li in span.links),
    )  # fmt: skip


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def roots(spans: Iterable[ReceivedSpan]) -> list[ReceivedSpan]:
    """Spans whose parent is not among them. One root means one connected tree."""
    spans = list(spans)
    known = {s.span_id for s in spans}
    return [s for s in spans if s.parent_id not in known]
