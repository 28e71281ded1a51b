"""Holds answers against the published OpenAPI documents: the right type, and no member that the document does not name."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
from jsonschema import Draft202012Validator

from cli.client import Client
from services.ingest.http.openapi import OWN, documents

Schema = dict[str, Any]
OF_WORKERS = {"getFileResult"}
"""Operations whose answers are what a worker wrote, byte by byte."""


class Published:
    """The operations of a document, each with validators for its JSON answers."""

    def __init__(self, document: Schema) -> None:
        self.document = copy.deepcopy(document)
        for schema in self.document["components"]["schemas"].values():
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
        # Names may contain slashes, but a path of as many parts as the pattern comes first, and one without names before.
        listed = sorted(self.document["paths"].items(), key=lambda found: found[0].count("{"))
        self._paths = [(self._pattern(path, within), found) for within in ("[^/]+", ".+") for path, found in listed]
        self.seen: set[str] = set()

    @staticmethod
    def _pattern(path: str, within: str) -> re.Pattern[str]:
        return re.compile("/*" + re.sub(r"\\{\w+\\}", f"({within})", re.escape(path)) + "/*")

    def fault(self, method: str, path: str, status: int, body: bytes, media: str) -> str | None:
        """What is wrong with an answer; None for a right one, and for paths and media that the document leaves to others."""
        operation = next(
            (found[method.lower()] for pattern, found in self._paths if pattern.fullmatch(path) and method.lower() in found), None
        )
        if operation is None or media not in ("application/json", "application/problem+json") or not body:
            return None
        if status < 300 and operation["operationId"] in OF_WORKERS:
            return None
        described = operation["responses"].get(str(status))
        if described is None:
            return f"{operation['operationId']}: status {status} is not documented"
        schema = described.get("content", {}).get(media, {}).get("schema")
        if schema is None:
            return f"{operation['operationId']}: {status} has no schema for {media}"
        if status < 300:
            self.seen.add(operation["operationId"])
        validator = Draft202012Validator({**schema, "components": self.document["components"]})
        found = next(iter(validator.iter_errors(json.loads(body))), None)
        return None if found is None else f"{operation['operationId']} {status}: {found.json_path}: {found.message[:300]}"


class CheckedClient(Client):
    """A client that fails at an answer of our own API that the gateway's document does not describe."""

    published: Published | None = None

    async def _read(self, answer: aiohttp.ClientResponse) -> Any:
        path = answer.url.path
        if self.published is None and path != "/openapi.json":
            self.published = Published(await self.call("GET", "/openapi.json"))
        if self.published is not None and path.startswith("/v1") and str(answer.url).startswith(self.target.url):
            body = await answer.read()
            fault = self.published.fault(answer.method, path, answer.status, body, answer.content_type)
            assert fault is None or answer.status in (405, 500), fault
        return await super()._read(answer)


def checker(app: Any) -> Callable[[httpx.Response], Any]:
    """An event hook of httpx that fails at an answer of our own API that the gateway's document does not describe."""
    published = Published(documents(app)[OWN])

    async def check(answer: httpx.Response) -> None:
        if not answer.request.url.path.startswith("/v1") or answer.request.method == "HEAD":
            return
        media = answer.headers.get("content-type", "").partition(";")[0]
        body = await answer.aread()
        fault = published.fault(answer.request.method, answer.request.url.path, answer.status_code, body, media)
        assert fault is None or answer.status_code in (405, 500), fault

    return check
