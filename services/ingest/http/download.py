"""Downloads: a whole object or a range of it (RFC 9110 §14). The ETag is the content's hash, and browsers save the file, never
run it."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from services.ingest.adapters.gateway import Gateway

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class NotInRange(ValueError):
    """The range lies outside the content."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first byte, byte after the last) of a Range header; None to send the whole object.

    Several ranges and an invalid header also give None, as RFC 9110 allows. Raises `NotInRange`.
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = int(found[2])
        if length == 0:
            raise NotInRange
        return max(0, size - length), size
    first = int(found[1])
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        raise NotInRange
    return first, min(int(found[2]) + 1, size) if found[2] else size


async def send(request: Request, gateway: Gateway, blob: str, file_name: str, media_type: str | None = None) -> Response:
    """Answer with an object: 200, 206, 304 or 416. Raises `ObjectMissing`."""
    etag = f'"{blob.rpartition("/")[2]}"'
    headers = {
        "etag": etag, "accept-ranges": "bytes", "x-content-type-options": "nosniff", "cache-control": "private, no-cache",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file_name)}",
    }  # fmt: skip
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    size = await gateway.objects.object_size(blob)
    wanted = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    try:
        part = byte_range(wanted, size)
    except NotInRange:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    if part is not None:
        headers |= {"content-range": f"bytes {part[0]}-{part[1] - 1}/{size}"}
    headers["content-length"] = str(part[1] - part[0] if part else size)
    status, kind = 206 if part else 200, media_type or "application/octet-stream"
    if request.method == "HEAD" or size == 0:
        return Response(status_code=status, headers=headers, media_type=kind)
    _, chunks = await gateway.objects.stream_object(blob, part)
    return StreamingResponse(chunks, status, headers, media_type=kind)
