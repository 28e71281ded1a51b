"""A gateway whose answers are fixed: each route gives one record of its kind. It keeps the requests that it was sent."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

JOB = "3f2a91c0-8a41-5f39-9d8e-1a2b3c4d5e6f"
OTHER = "3f2a91c0-0000-5000-8000-000000000001"
FILE = "0b1c2d3e-4f50-5a61-8b72-9c83ad94be05"
BULK = "0193a5b0-1111-7222-8333-444455556666"
TEXT = "text/plain"
AT, UNIX = "2026-11-30T08:15:00+00:00", 1_796_026_500.0
NOW = 1_796_033_700.0
"""The time of every command: two hours later."""

_FILE: dict[str, Any] = {
    "id": FILE, "job_id": JOB, "file_name": "invoice [7].pdf", "status": "failed", "tag_name": "invoice", "classification_score": 0.98,
    "code": "encrypted", "message": "The document is protected by a password.", "step": "extract", "progress": None, "fields": {},
    "properties": {}, "results": {}, "outputs": [], "creation_date": AT, "update_date": AT, "size": 1234,
    "content_type": "application/pdf", "folder": None,
}  # fmt: skip
_JOB: dict[str, Any] = {
    "id": JOB, "stage": "failed", "stage_since": UNIX, "workflow": "documents@1", "finished_files": 1, "file_count": 1, "retries": 0,
    "creation_date": AT, "update_date": AT, "error_messages": ["The document is protected by a password."], "metadata": {"case": "7"},
    "files": [_FILE], "waiting": None, "results": {}, "outputs": [], "paused": None, "job_key": None, "priority": "normal",
}  # fmt: skip
_EVENT = {
    "event_time": UNIX,
    "event": {"event_type": "job_event", "event_name": "job_stage_update_event", "job_id": JOB, "step": None, "stage": "failed"},
}
_BULK = {
    "id": BULK, "verb": "retry", "state": "finished", "count": 3, "done": 2, "refused": 1, "by": "ann", "reason": "after the outage",
    "created_at": UNIX, "filter": {"stage": ["failed"]}, "rate_per_s": 50.0,
}  # fmt: skip
_LINE = {
    "action": "text.extract", "tenant_id": "default", "waiting": 4, "oldest_at": UNIX, "oldest_age_s": 40.0, "in_flight": 2, "workers": 2, "no_worker_since": None,
    "arrival_per_s": 1.5, "service_per_s": 2.0, "drained_at": NOW + 90, "wasted": 0, "gate": "open", "gate_message": "",
}  # fmt: skip
_SCHEDULE = {
    "name": "nightly #1", "cron": "30 2 * * *", "time_zone": "UTC", "urls": [], "paused": False, "next_at": "2026-12-01T02:30:00+00:00",
    "last_job_id": JOB, "job": {"workflow": "documents", "metadata": {"schedule": "nightly #1"}},
}  # fmt: skip
_RESULT = {
    "job_id": JOB, "job_key": None, "workflow": "documents@1", "stage": "failed", "error_messages": [], "results": {}, "outputs": [],
    "files": [
        {
            "file_id": FILE, "file_name": "invoice [7].pdf", "status": "failed", "tag": "invoice", "score": 0.98, "code": "encrypted",
            "message": None, "fields": {"total": "5.00"}, "properties": {}, "results": {}, "outputs": [],
        }
    ],
}  # fmt: skip
_KEY = {
    "key_id": "k-1", "prefix": "sk_abc", "user_name": "[billing]", "role": "reader", "rights": ["share"], "expires_at": None,
    "tenant_id": "default", "created_at": AT,
}  # fmt: skip
_AUDIT = {
    "occurred_at": AT, "by": "ann", "verb": "cancel", "subject": JOB, "ok": True, "message": None, "code": None, "reason": "twice", "seq": 1,
}  # fmt: skip
_SEARCHED = {"file_id": FILE, "job_id": JOB, "file_name": "invoice [7].pdf", "snippet": "the [hydraulic] pump"}
_WHY = {"code": "waiting_for_worker", "message": "No worker is free.", "changes_at": None, "facts": {}}
LISTS: dict[str, list[dict[str, Any]]] = {
    "/v1/jobs": [_JOB], "/v1/results": [_RESULT], "/v1/bulk": [_BULK], "/v1/schedules": [_SCHEDULE], "/v1/keys": [_KEY],
    "/v1/tenants": [{"tenant_id": "acme", "name": "Acme", "quotas": {"jobs_open": 7}, "inbox": None}],
    "/v1/users": [{"user_name": "ann", "role": "operator", "rights": [], "disabled": False}],
    "/v1/applications": [{"secret_key": "app-1", "user_name": "sdk", "role": "producer", "rights": []}],
    "/v1/workflows": [{"name": "documents", "versions": [1, 2], "draft": False, "description": "Reads documents"}],
    "/v1/secrets": [{"name": "crm", "origins": ["https://crm.example.com"], "changed_by": "ann", "changed_at": AT}],
    "/v1/audit": [_AUDIT], "/v1/search": [_SEARCHED], "/api/job/all": [_JOB], "/api/file/all": [_FILE],
}  # fmt: skip
RECORDS: dict[str, Any] = {
    "/v1/backlog": {"lines": [_LINE]},
    "/v1/jobs/{}": _JOB,
    "/v1/jobs/{}/history": {"result": [_EVENT], "next": None},
    "/v1/jobs/{}/why": _WHY,
    "/v1/jobs/{}/results": _RESULT,
    "/v1/files/{}": _FILE,
    "/v1/files/{}/text": "Invoice 7\nTotal 5.00",
    "/v1/bulk/{}": _BULK,
    "/v1/workflows/{}": {"name": "documents", "version": 2, "definition": {"name": "documents", "version": 2, "steps": []}},
}

MADE = {
    ("POST", "/api/deferred/create"): {"session_id": OTHER},
    ("POST", "/api/file/uploadfile"): {"file_id": FILE},
    ("POST", "/api/job/create"): {"job_id": JOB},
    ("POST", "/api/file/upload"): {"job_id": JOB},
}
"""Answers to what is created."""


class Gateway:
    """The running server, and what it was asked: (method, path and query as they were sent)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        """The bodies that are JSON."""
        self.uploads: list[bytes] = []
        self.records = dict(RECORDS)
        self.empty = False
        """Lists are empty and no record exists."""

    def answer(self, method: str, target: str) -> tuple[int, Any]:
        """(status, body) of a request."""
        parts = urlsplit(target)
        if method == "DELETE":
            return 204, None
        if method == "POST" and re.fullmatch("/v1/jobs/[^/]+/(cancel|pause|resume|retry|terminate|poke)", parts.path):
            return 200, _JOB
        if (method, parts.path) in MADE or parts.path.endswith("/rerun"):
            return 201, MADE.get((method, parts.path), {"job_id": OTHER})
        if method != "GET":
            return 200, _BULK if parts.path.startswith("/v1/bulk") else {}
        if parts.path in LISTS:
            beginning = dict(parse_qsl(parts.query)).get("id", "")
            found = [] if self.empty else [one for one in LISTS[parts.path] if str(one.get("id", "")).startswith(beginning)]
            return 200, {"result": found, "next": None, "totalPages": 1, "total_pages": 1}
        for path, record in self.records.items():
            if re.fullmatch(path.replace("{}", "[^/]+"), parts.path) and not self.empty:
                return 200, record
        if parts.path == "/v1/backlog":
            return 200, {"lines": []}
        return 404, {"detail": "There is no such record."}


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other, as the gateway of its server says."""

    server: Server

    def handle_any(self) -> None:
        """Keep the request and send its answer."""
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            sent = b"".join(iter(self.chunk, b""))
        gateway = self.server.gateway
        gateway.uploads.append(sent)
        gateway.requests.append((self.command, self.path))
        with contextlib.suppress(ValueError):
            gateway.bodies.append(json.loads(sent))
        self.send(*gateway.answer(self.command, self.path))

    def send(self, status: int, body: Any) -> None:
        """Send an answer. A stream of events stays open until the caller has gone."""
        data = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
        streams = TEXT == "text/event-stream"
        self.send_response(status)
        self.send_header("content-type", TEXT if isinstance(body, str) else "application/json")
        if not streams:
            self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if streams:
            self.rfile.read(1)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def chunk(self) -> bytes:
        """The next piece of a body that is sent in pieces."""
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what is printed belongs to the command."""


class Server(ThreadingHTTPServer):
    """A server that knows its gateway."""

    gateway: Gateway


@contextlib.contextmanager
def serving() -> Iterator[Gateway]:
    """A gateway on a free port of this machine, until the block ends."""
    server = Server(("127.0.0.1", 0), Handler)
    server.gateway = Gateway(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
