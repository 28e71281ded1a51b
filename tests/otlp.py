"""The demo's OTLP receiver, extended by metrics: by service, name and attributes."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from cli.local.otlp_receiver import OtlpReceiver


@dataclass(frozen=True, slots=True)
class Point:
    """The newest value of one time series, summed up since its process started; of a counter, `count` is 0."""

    service: str
    name: str
    attributes: Mapping[str, Any]
    value: float
    """The value of a counter, or the sum of a histogram's values."""
    count: int = 0
    bounds: tuple[float, ...] = ()


class MetricsReceiver(OtlpReceiver):
    """Keeps the newest point of each series."""

    def __init__(self) -> None:
        super().__init__()
        self.exports: Counter[str] = Counter()
        """Of each service, how often its metrics came."""
        self._points: dict[tuple[str, str, frozenset[tuple[str, Any]]], Point] = {}

    def points(self, name: str, service: str = "", **attributes: Any) -> list[Point]:
        """Series of a metric with at least these attributes; dots in names of attributes are written as two underscores."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [
            p for p in self._points.values()
            if p.name == name and service in ("", p.service) and wanted.items() <= dict(p.attributes).items()
        ]  # fmt: skip

    def value(self, name: str, service: str = "", **attributes: Any) -> float:
        """Sum of those series."""
        return sum(p.value for p in self.points(name, service, **attributes))

    def names(self) -> set[str]:
        """Every name received."""
        return {p.name for p in self._points.values()}

    async def _metrics(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.exports[service.removeprefix("stageline-")] += 1
            for metric in (m for scope in resource.scope_metrics for m in scope.metrics):
                for point in _points(service.removeprefix("stageline-"), metric):
                    self._points[point.service, point.name, frozenset(point.attributes.items())] = point
        return web.Response(content_type="application/x-protobuf")


def _points(service: str, metric: Any) -> list[Point]:
    kind = metric.WhichOneof("data")
    found = []
    for p in getattr(metric, kind).data_points:
        attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in p.attributes}
        if kind == "histogram":
            found.append(Point(service, metric.name, attributes, p.sum, p.count, tuple(p.explicit_bounds)))
        else:
            found.append(Point(service, metric.name, attributes, getattr(p, p.WhichOneof("value"))))
    return found
