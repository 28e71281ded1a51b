"""The vendor's Chrome client by its calls: the service's state, its workflows, and the conversion of files one by one or as one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.clients.conversion.wire import Answer, multipart, send
from tests.eventually import eventually

ORIGIN = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
"""Chrome gives an extension such an origin, and sends it with everything but reads."""
PATIENCE_S = 60.0
"""The client gives up on a job after this time."""


class Failed(Exception):
    """What the client shows its user: an answer that it did not expect."""


class ChromeClient:
    """The calls of the extension's pages, in their order."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self.http = http
        self.base = base

    async def _ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        origin = {} if method == "GET" else {"Origin": ORIGIN}
        sent = {"Accept": "application/json", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "cors", **origin, **headers}
        answer = await send(self.http, method, self.base + path, sent, body)
        if not 200 <= answer.status < 300:
            raise Failed(f"{method} {path}: {answer.status} {answer.content[:300]!r}")
        return answer

    async def is_online(self) -> bool:
        """What turns the client's light green."""
        return bool((await self._ask("GET", "/")).json["status"] == "running")

    async def selected(self) -> tuple[str, str]:
        """The workflow and the profile that its lists show at first."""
        listed: list[dict[str, Any]] = (await self._ask("GET", "/workflows")).json
        workflow = next(w for w in listed if w["isDefault"])
        return workflow["name"], next(p["name"] for p in workflow["profiles"] if p["isDefault"])

    async def convert(self, files: dict[str, bytes], workflow: str, profile: str, merge: bool) -> list[bytes]:
        """The results, of one job for all files or of one job each."""
        groups = [files] if merge else [{name: data} for name, data in files.items()]
        return [await self._job(group, workflow, profile) for group in groups]

    async def _job(self, files: dict[str, bytes], workflow: str, profile: str) -> bytes:
        query = urlencode({"workflow": workflow, "profile": profile})
        made = await self._ask("POST", f"/jobs?{query}", json.dumps([]).encode(), **{"Content-Type": "application/json"})
        path = f"/jobs/{made.json['jobId']}"
        for name, data in files.items():
            body, kind = multipart(name, data, "application/octet-stream", {})
            await self._ask("POST", f"{path}/data", body, **kind)
        await self._ask("POST", f"{path}:start")
        await eventually(lambda: self._is_done(path), PATIENCE_S)
        result = (await self._ask("GET", f"{path}/result")).json
        listed = result["dataList"]
        if not listed:
            raise Failed(f"the result has no data: {result}")
        content = (await self._ask("GET", f"{path}/result/{listed[0]['resultId']}", Accept="*/*")).content
        await self._ask("DELETE", path)
        return content

    async def _is_done(self, path: str) -> bool:
        status = (await self._ask("GET", path)).json["status"]
        if status["code"] == "failed":
            raise Failed(status["message"])
        return bool(status["code"] == "completed")
