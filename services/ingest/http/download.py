"""Downloads: a whole object or a range of it (RFC 9110 §14). The ETag is the content's hash, and browsers save the file, never
run it."""

from __future__ import annotations

import re
import unicodedata
from mimetypes import MimeTypes
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from shared.objects.object_store import TenantObjects

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
OCTETS = "application/octet-stream"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(; ?[A-Za-z0-9_-]+=[A-Za-z0-9_.:+-]+)*")
_RUN_BY_BROWSERS = re.compile(r"html|svg|script|css|x-shockwave|wasm", re.IGNORECASE)
_KNOWN = MimeTypes()
"""Media types by file name, the same on every machine. Python's own table has no Office files."""
for _suffix, _name in (
    (".docx", "vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (".xlsx", "vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (".pptx", "vnd.openxmlformats-officedocument.presentationml.presentation"),
    (".odt", "vnd.oasis.opendocument.text"),
    (".ods", "vnd.oasis.opendocument.spreadsheet"),
    (".odp", "vnd.oasis.opendocument.presentation"),
):
    _KNOWN.add_type(f"application/{_name}", _suffix)


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


def disposition(file_name: str) -> str:
    """The Content-Disposition header of a download (RFC 6266).

    An ASCII name stands in `filename` alone: Alfred's Node.js client takes everything after `filename=`, its Python client everything
    after `filename*=`. Other names stand last, in `filename*`, after a name in ASCII for clients that know `filename` only.
    """
    if _TOKEN.fullmatch(file_name):
        return f"attachment; filename={file_name}"
    plain = unicodedata.normalize("NFKD", file_name).encode("ascii", "ignore").decode()
    plain = "".join(c for c in plain if c.isprintable() and c not in '"\\')
    if plain == file_name:
        return f'attachment; filename="{plain}"'
    plain = f"file{plain}" if plain[:1] in ("", ".") else plain
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def media_type_of(known: str | None, file_name: str) -> str:
    """The media type of a download: the known one, or that of the name's suffix.

    What a browser runs (HTML, SVG, scripts, styles) is bytes: another page of this host could load it, although the download itself is
    only saved.
    """
    if known is None or known == OCTETS or not _MEDIA_TYPE.fullmatch(known):
        known = _KNOWN.guess_type(file_name)[0] or OCTETS
    return OCTETS if _RUN_BY_BROWSERS.search(known) else known


async def send(request: Request, objects: TenantObjects, blob: str, file_name: str, media_type: str | None = None) -> Response:
    """Answer with an object: 200, 206, 304 or 416. `media_type` is the file's, if it is known. Raises `ObjectMissing`."""
    objects.owned(blob)
    etag = f'"{blob.rpartition("/")[2]}"'
    headers = {
        "etag": etag, "accept-ranges": "bytes", "x-content-type-options": "nosniff", "cache-control": "private, no-cache",
        "content-disposition": disposition(file_name),
    }  # fmt: skip
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    size = await objects.object_size(blob)
    wanted = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    try:
        part = byte_range(wanted, size)
    except NotInRange:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    if part is not None:
        headers |= {"content-range": f"bytes {part[0]}-{part[1] - 1}/{size}"}
    # Set as a header: the framework's `media_type` would add a character set that nobody knows.
    headers |= {"content-length": str(part[1] - part[0] if part else size), "content-type": media_type_of(media_type, file_name)}
    status = 206 if part else 200
    if request.method == "HEAD" or size == 0:
        return Response(status_code=status, headers=headers)
    _, chunks = await objects.stream_object(blob, part)
    return StreamingResponse(chunks, status, headers)
