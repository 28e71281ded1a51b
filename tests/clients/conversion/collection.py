"""The vendor's published Postman collection by its calls: addresses, headers and bodies as shipped, its assertions in our words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.clients.conversion.wire import JOB, JSON, PROBLEM, RESULT, SERVICE, WORKFLOWS, Answer, multipart, send, shortcoming

NO_JOB, NO_RESULT = "nojob", "noresult"
"""What the collection's variables hold before there is a job or a result."""
PLACEHOLDERS = json.dumps([{"name": "<string>", "value": "<string>"}] * 2)
"""The options of `addData`: the collection is shipped with placeholders."""


@dataclass
class Call:
    """A request of the collection: what it asks, what it expects, and the request that it names as the next one."""

    method: str
    path: str
    statuses: tuple[int, ...]
    following: str = ""
    needs: tuple[str, ...] = ("job_id",)
    form: Any = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


JSON_BODY = {**JSON, "Content-Type": "application/json"}
CALLS = {
    "createJob": Call("POST", "/jobs/?workflow=Archive%20PDF/A-2&profile=default", (201,), "addData", (), JOB, headers=JSON_BODY),
    "addData": Call("POST", "/jobs/{job_id}/data/", (201,), "startJob", form={"dataId": str}),
    "addData by url": Call(
        "POST", "/jobs/{job_id}/data/?url={source}", (201,), "startJob", form={"dataId": str}, body=PLACEHOLDERS.encode(), headers=JSON_BODY
    ),
    "startJob": Call("POST", "/jobs/{job_id}:start", (204,), "getJobResult"),
    "cancelJob": Call("POST", "/jobs/{job_id}:cancel", (202,), "deleteJob"),
    "getJobInfo": Call("GET", "/jobs/{job_id}", (200,), "getJobResult", form=JOB),
    "getJobResult": Call("GET", "/jobs/{job_id}/result", (200,), "getJobResultData", form=RESULT),
    "getJobResultData": Call("GET", "/jobs/{job_id}/result/{result_id}", (200,), "deleteJob", ("job_id", "result_id")),
    "storeJobResultData": Call(
        "POST", "/jobs/{job_id}/result/{result_id}:put?url={target}", (204,), "deleteJob", ("job_id", "result_id"), headers={}
    ),
    "storeJobResultData as shipped": Call(
        "POST", "/jobs/{job_id}/result/{result_id}:put", (204,), "deleteJob", ("job_id", "result_id"), headers={}
    ),
    "deleteJob": Call("DELETE", "/jobs/{job_id}", (202, 204)),
    "getServiceStatus": Call("GET", "/", (200,), needs=(), form=SERVICE),
    "listWorkflows": Call("GET", "/workflows", (200,), needs=(), form=WORKFLOWS),
    "listJobs": Call("GET", "/jobs/", (200,), needs=(), form=[JOB]),
}  # fmt: skip
"""By the vendor's names, in the collection's order. The two addresses are what a user fills in: of a document, and to store at."""
CONTRADICTS_ITSELF = {
    "storeJobResultData as shipped": (
        400,
        "differs: The collection ships this request without `url`, and says itself that the answer is then 400.",
    ),
}
"""Call → the status that the vendor documents against the collection's own assertion, and the words for it."""


class Collection:
    """Runs calls as Postman does, with the collection's variables. `results` says of each call what came of it."""

    def __init__(self, http: aiohttp.ClientSession, base: str, document: bytes, source: str = "", target: str = "") -> None:
        self.http = http
        self.base = base
        self.document = document
        self.variables = {
            "job_id": NO_JOB,
            "result_id": NO_RESULT,
            "source": quote(source, safe=""),
            "target": quote(target, safe=""),
        }
        self.results: dict[str, str] = {}
        self.passed = 0
        self.answers: dict[str, Answer] = {}

    async def run(self, *names: str) -> None:
        """Run `names`, then what the last of them leads to, up to the end."""
        name = ""
        for name in names:
            await self.call(name)
        while name := CALLS[name].following:
            await self.call(name)

    async def call(self, name: str) -> None:
        """One call with its assertions, before and after."""
        call = CALLS[name]
        missing = [n for n in call.needs if self.variables[n] in (NO_JOB, NO_RESULT)]
        self.passed += len(call.needs) - len(missing)
        body, headers = call.body, call.headers
        if name == "addData":
            body, kind = multipart("contract nda.pdf", self.document, "application/pdf", {"options": PLACEHOLDERS})
            headers = {**headers, **kind}
        answer = await send(self.http, call.method, self.base + call.path.format_map(self.variables), headers, body)
        self.answers[name] = answer
        faults = [f"{n} is not set" for n in missing] + self._faults(call, answer)
        self.passed += answer.status in call.statuses
        self._remember(name, answer)
        documented = CONTRADICTS_ITSELF.get(name)
        if documented and answer.status == documented[0] and shortcoming(PROBLEM, answer.json) is None:
            self.results[name] = documented[1]
        else:
            self.results[name] = "fails: " + "; ".join(faults) if faults else self.results.get(name, "works")

    def _faults(self, call: Call, answer: Answer) -> list[str]:
        if answer.status not in call.statuses:
            return [f"{answer.status} {answer.content[:300]!r}"]
        if call.form is None:
            return []
        lacks = shortcoming(call.form, answer.json)
        return [lacks] if lacks else []

    def _remember(self, name: str, answer: Answer) -> None:
        """What the collection's scripts write into its variables."""
        writers: dict[str, Callable[[], dict[str, str]]] = {
            "createJob": lambda: {"job_id": answer.json["jobId"]} if answer.status == 201 else {},
            "getJobResult": lambda: (
                {"result_id": answer.json["dataList"][0]["resultId"]} if answer.json.get("success") is True else {}
            ),
            "deleteJob": lambda: {"job_id": NO_JOB, "result_id": NO_RESULT},
        }
        if name in writers:
            self.variables |= writers[name]()
