"""Structured logs: one JSON object per line, with trace and job ids, to standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

from shared.telemetry.client_errors import RepeatedAttempts
from shared.telemetry.trace_context import parse_traceparent

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, service, the fields of `extra`, and the current trace and span ids."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "service": self.service,
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = format_trace_id(context.trace_id)
            line["span_id"] = format_span_id(context.span_id)
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # A lone surrogate, of a hostile text, cannot be written as UTF-8.
        return json.dumps(line, default=str, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def log_fields(trace: str | None, job_id: str | None = None, **facts: Any) -> dict[str, Any]:
    """`extra=` of a log line about a message: trace and span ids from its `traceparent`, its job, and other facts."""
    context = parse_traceparent(trace)
    if context is not None:
        facts |= {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}
    if job_id:
        facts["job.id"] = job_id
    return facts


class RateLimit(logging.Filter):
    """Passes the same message at most once per interval: aiokafka logs about 100 lines a second while a broker is unreachable."""

    def __init__(self, per_s: float = 1.0) -> None:
        super().__init__()
        self.interval = 1.0 / per_s
        self.last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self.last.get(record.msg, -1e9) < self.interval:
            return False
        if len(self.last) > 500:
            self.last.clear()
        self.last[record.msg] = now
        return True


def configure(service: str, level: str = "INFO") -> None:
    """Log JSON lines of all loggers to standard error, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    attempts, limit = RepeatedAttempts(), RateLimit()
    handler.addFilter(lambda record: not record.name.startswith("aiokafka") or (attempts.filter(record) and limit.filter(record)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("aiokafka", "faststream", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its warnings are ordinary rebalances.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.ERROR)
