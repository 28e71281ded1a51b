"""Requests as the Conversion Service's published clients send them, byte for byte, and the documented form of the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

JSON = {"Accept": "application/json"}
STATUS = {"code": str, "message": str}
JOB = {"jobId": str, "status": STATUS}
PROBLEM = {"type": str, "title": str, "detail": str, "status": int}
RESULT = {
    "success": bool,
    "events": list,
    "dataList": [{"fileName": str, "resultId": str, "properties": [{"name": str, "value": str}]}],
}
SERVICE = {
    "version": str, "status": str, "isolation": {"processCount": int, "queueLength": int},
    "jobCounts": {"creating": int, "processing": int, "completed": int, "total": int}, "startTime": str,
}  # fmt: skip
WORKFLOWS = [{"name": str, "isDefault": bool, "profiles": [{"name": str, "isDefault": bool}]}]
"""Documented bodies: member → type of its value, or the form of an inner body."""


def shortcoming(form: Any, body: Any, path: str = "body") -> str | None:
    """What a body lacks of a documented form; None if nothing. Further members are fine."""
    if isinstance(form, type):
        return None if isinstance(body, form) else f"{path} is {body!r}"
    if isinstance(form, list):
        if not isinstance(body, list):
            return f"{path} is no list"
        return next((found for n, entry in enumerate(body) if (found := shortcoming(form[0], entry, f"{path}.{n}"))), None)
    if not isinstance(body, dict) or not form.keys() <= body.keys():
        return f"{path} has not {', '.join(form)}"
    return next((found for name, inner in form.items() if (found := shortcoming(inner, body[name], f"{path}.{name}"))), None)


@dataclass(frozen=True)
class Answer:
    """Status, media type and content of an answer."""

    status: int
    kind: str
    content: bytes

    @property
    def json(self) -> Any:
        """The content as JSON; None for anything else."""
        return json.loads(self.content) if self.kind.endswith("json") and self.content else None


def multipart(file_name: str, data: bytes, media_type: str, fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """A form with the file in its part `data`, and its header. As in Postman and browsers, text parts have no type."""
    boundary = "----FormBoundary7MA4YWxkTrZu0gW"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="{file_name}"\r\nContent-Type: {media_type}\r\n\r\n'
    texts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    )
    body = head.encode() + data + b"\r\n" + texts.encode() + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


async def send(
    http: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> Answer:
    """One request, with its address as it is written."""
    async with http.request(method, URL(url, encoded=True), headers=headers, data=body) as answer:
        return Answer(answer.status, answer.content_type, await answer.read())
