"""Multipart uploads as a stream: the file goes straight to the object store and is never buffered as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import Message as MailMessage

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from services.ingest.core.file_names import clean_name
from shared.objects.object_store import StagedObject, StoredObject, TenantObjects, TooLarge

MAX_FIELD_BYTES = 65_536
MAX_FIELDS = 50


class BadUpload(ValueError):
    """The body is not what the endpoint accepts; the text names the part and the reason."""


@dataclass
class Upload:
    """Content of a form: its text fields, and the one stored file with its name and declared type."""

    fields: dict[str, str] = field(default_factory=dict)
    stored: StoredObject | None = None
    file_name: str = ""
    content_type: str = "application/octet-stream"


class _Parts:
    """Collects the parser's callbacks as events, in order."""

    def __init__(self) -> None:
        self.header_name = b""
        self.header_value = b""
        self.headers: dict[str, str] = {}
        self.events: list[tuple[str, bytes]] = []
        self.begun: list[dict[str, str]] = []

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self.headers.clear,
            "on_header_field": lambda d, s, e: setattr(self, "header_name", self.header_name + d[s:e]),
            "on_header_value": lambda d, s, e: setattr(self, "header_value", self.header_value + d[s:e]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._begin,
            "on_part_data": lambda d, s, e: self.events.append(("data", bytes(d[s:e]))),
            "on_part_end": lambda: self.events.append(("end", b"")),
        }

    def _begin(self) -> None:
        # One chunk may contain several parts, so each part keeps its own headers.
        self.begun.append(dict(self.headers))
        self.events.append(("part", b""))

    def _header_end(self) -> None:
        self.headers[self.header_name.decode("latin-1").lower()] = self.header_value.decode("utf-8", "replace")
        self.header_name = self.header_value = b""


async def receive(
    request: Request, objects: TenantObjects, limit: int, part: str = "file", body: AsyncIterator[bytes] | None = None
) -> Upload:
    """Read a `multipart/form-data` request with one file, in the part named `part`, of at most `limit` bytes.

    `body` replaces the request's own stream; what it raises is passed on. Raises `BadUpload`, `TooLarge`, and `Retry` when the object
    store is unavailable. The file becomes the tenant's at the end of the body; whatever is raised, its bytes are deleted.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise BadUpload("content-type: multipart/form-data with a boundary is expected")
    try:
        reader = _Reader(objects, limit, boundary, part)
        await reader.read(body or request.stream())
    except FormParserError as error:
        raise BadUpload(f"body: {error}") from None
    except ClientDisconnect:
        raise BadUpload("body: the client went away before the end") from None
    return reader.upload


class _Reader:
    def __init__(self, objects: TenantObjects, limit: int, boundary: bytes, part: str) -> None:
        self.objects = objects
        self.limit = limit
        self.parts = _Parts()
        self.parser = MultipartParser(boundary, self.parts.callbacks())  # type: ignore[arg-type]
        self.upload = Upload()
        self.part = part
        self.name = ""
        self.text = bytearray()
        self.queue: asyncio.Queue[bytes | None] | None = None
        self.storing: asyncio.Task[StagedObject] | None = None
        self.staged: StagedObject | None = None

    async def read(self, body: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in body:
                self.parser.write(chunk)
                await self._dispatch()
            self.parser.finalize()
            await self._dispatch()
            if self.queue is not None:
                raise BadUpload(f"{self.part}: the part has no end")
            if self.staged is not None:
                self.upload.stored = await self.objects.commit_staged(self.staged)
        except BaseException:
            if self.storing is not None:
                self.storing.cancel()
                await asyncio.gather(self.storing, return_exceptions=True)
            if self.staged is not None:
                await self.objects.discard_staged(self.staged)
            raise

    async def _dispatch(self) -> None:
        events, self.parts.events = self.parts.events, []
        for kind, data in events:
            if kind == "part":
                self._begin(self.parts.begun.pop(0))
            elif kind == "data":
                await self._data(data)
            else:
                await self._end()

    def _begin(self, headers: dict[str, str]) -> None:
        disposition = MailMessage()
        disposition["content-disposition"] = headers.get("content-disposition", "")
        self.name = str(disposition.get_param("name", "", "content-disposition"))
        file_name = _unescaped(disposition.get_filename() or "")
        self.text = bytearray()
        if len(self.upload.fields) >= MAX_FIELDS:
            raise BadUpload(f"body: more than {MAX_FIELDS} fields")
        if self.name == self.part:
            if self.staged is not None:
                raise BadUpload(f"{self.part}: one file per request is expected")
            self.upload.file_name = clean_name(file_name)
            self.upload.content_type = headers.get("content-type", "application/octet-stream")[:200]
            self.queue = asyncio.Queue(8)
            self.storing = asyncio.create_task(self.objects.stage_stream(_drain(self.queue), self.limit))

    async def _data(self, data: bytes) -> None:
        if self.queue is None:
            self.text += data
            if len(self.text) > MAX_FIELD_BYTES:
                raise BadUpload(f"{self.name[:100]}: longer than {MAX_FIELD_BYTES} bytes")
            return
        assert self.storing is not None
        put = asyncio.create_task(self.queue.put(data))
        await asyncio.wait({put, self.storing}, return_when=asyncio.FIRST_COMPLETED)
        if self.storing.done():
            put.cancel()
            self.storing.result()
            raise TooLarge("too_large", f"the file is larger than the limit of {self.limit} bytes")

    async def _end(self) -> None:
        if self.queue is None:
            self.upload.fields[self.name] = self.text.decode("utf-8", "replace")
            return
        assert self.storing is not None
        await self.queue.put(None)
        self.staged = await self.storing
        self.queue = self.storing = None


def _unescaped(name: str) -> str:
    """The name without the escapes of the HTML standard, which browsers and most clients send."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


async def _drain(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while True:
        chunk = await queue.get()
        if chunk is None:
            return
        yield chunk


def declared_size(request: Request) -> int | None:
    """Size of the body by its Content-Length header; None without a valid one."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() and len(length) < 19 else None
