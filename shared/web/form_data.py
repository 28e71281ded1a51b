"""Bodies of `multipart/form-data` as our HTTP clients send them: each name is sent as it is."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import payload
from aiohttp.hdrs import CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE


class FormData(aiohttp.MultipartWriter):
    """A form for one request. Unlike aiohttp's own class it sends names as UTF-8 (RFC 7578 §5.1), not percent-encoded."""

    def __init__(self) -> None:
        super().__init__("form-data")

    def add_field(self, name: str, value: Any, *, filename: str | None = None, content_type: str | None = None) -> None:
        """Add a text field, or with `filename` a file: bytes or an open file, which is streamed."""
        disposition = f'form-data; name="{_escaped(name)}"'
        if filename is not None:
            disposition += f'; filename="{_escaped(filename)}"'
        more = {CONTENT_TYPE: content_type} if content_type else {}
        part = payload.get_payload(value, headers={CONTENT_DISPOSITION: disposition, **more})
        part.headers.popall(CONTENT_LENGTH, None)
        self.append_payload(part)


def _escaped(name: str) -> str:
    """`name` between quotes, by the rule of the HTML standard (§4.10.21.8): only `"` and line ends are escaped."""
    shown = name.encode("utf-8", "replace").decode()
    return shown.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
