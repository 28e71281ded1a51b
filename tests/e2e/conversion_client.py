"""A client of the Conversion Service, written from the vendor's collection and sample (reference/vendor-apis.md §3): no credentials, JSON."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from shared.web.form_data import FormData


class Problem(Exception):
    """Problem details (RFC 7807)."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.type = str(body["type"]).rpartition("/")[2]
        assert body["status"] == status and body["title"] and body["detail"]


class Conversion:
    """The Advanced API. Use as an async context manager."""

    def __init__(self, gateway: str, **headers: str) -> None:
        self.base = f"{gateway}/conversion/v1.0/rest"
        self.http = aiohttp.ClientSession(headers=headers)

    async def __aenter__(self) -> Conversion:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.close()

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.base + path, **more) as answer:
            kind = answer.content_type
            body = json.loads(await answer.read()) if kind.endswith("json") else await answer.read()
            if answer.status >= 400:
                raise Problem(answer.status, body)
            return answer.status, body

    async def create(self, *options: tuple[str, Any], **query: str) -> str:
        listed = [{"name": n, "value": v} for n, v in options]
        status, body = await self.call("POST", "/jobs/", json=listed, params=query)
        assert status == 201 and body["status"]["code"] == "creating"
        return str(body["jobId"])

    async def add(self, job_id: str, name: str, data: bytes, *options: tuple[str, Any]) -> str:
        form = FormData()
        form.add_field("data", data, filename=name)
        if options:
            form.add_field("options", json.dumps([{"name": n, "value": v} for n, v in options]))
        status, body = await self.call("POST", f"/jobs/{job_id}/data/", data=form)
        assert status == 201
        return str(body["dataId"])

    async def start(self, job_id: str) -> dict[str, Any]:
        """Start the job, and wait for its result."""
        assert (await self.call("POST", f"/jobs/{job_id}:start"))[0] == 204
        return dict((await self.call("GET", f"/jobs/{job_id}/result"))[1])
