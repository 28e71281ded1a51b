"""`http.webhook`: a step that tells a URL of a workflow's, by the rules of Invopop's webhook step (reference/vendor-apis.md §2.7)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp

from contracts import StageTask, TaskStatus, derived
from services.stage_worker.adapters.documents.fault import DocumentFault
from services.stage_worker.ports import Answer, Progress
from shared.net.address_guard import AddressRefused, check_url, guarded_connector
from shared.net.networks import Networks

TAKEN = (200, 204)
MOST_WAITS = 32
"""Tries after a receiver has asked for time."""
MAX_ANSWER_BYTES = 65_536
MAX_RETRY_IN_S = 86_400.0
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_FORBIDDEN = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type"})


class Calling:
    """POSTs the step's payload; what the workflow's retry policy says then applies to what was not taken."""

    def __init__(self, trusted: Networks) -> None:
        self.trusted = trusted
        self._session: aiohttp.ClientSession | None = None

    async def call(self, task: StageTask, progress: Progress) -> Answer:
        """`config`: `url`, `event`, `headers`, `bearer_token`, and what the door adds of the job (`key`, `args`, `silo_entry_id`)."""
        url = str(task.config.get("url", ""))
        try:
            check_url(url, self.trusted)
            status, body = await self._post(url, json.dumps(payload(task)).encode(), headers(task.config))
        except AddressRefused as error:
            raise DocumentFault("ssrf_refused", f"The address is not allowed: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__ or error.__context__, AddressRefused):
                raise DocumentFault("ssrf_refused", "The address is not allowed.") from None
            return Answer(
                TaskStatus.ERR, "unreachable", f"The address could not be reached: {error or type(error).__name__}"[:1000]
            )
        return judge(status, body, task.polls or 0)

    async def _post(self, url: str, body: bytes, more: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=30, connect=5)
            self._session = aiohttp.ClientSession(connector=guarded_connector(self.trusted), timeout=timeout, trust_env=False)
        sent = {"content-type": "application/json", "user-agent": "Stageline/0.1", **more}
        async with self._session.post(url, data=body, headers=sent, allow_redirects=False) as answer:
            return answer.status, await answer.content.read(MAX_ANSWER_BYTES)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)


def payload(task: StageTask) -> dict[str, Any]:
    """What is sent: no content, the receiver fetches that."""
    failure = task.inputs.get("failure", {})
    faults = [{"provider": "stageline", "message": str(m)} for m in failure.get("errors", [])]
    return {
        "id": derived(task.job_id, task.step, task.attempt, "webhook"), "event": task.config.get("event", task.step),
        "transform_job_id": task.job_id, "silo_entry_id": task.config.get("silo_entry_id"), "owner_id": task.tenant_id,
        "key": task.config.get("key"), "args": task.config.get("args") or {}, "faults": faults,
    }  # fmt: skip


def headers(config: dict[str, Any]) -> dict[str, str]:
    """The step's own headers. Raises `DocumentFault` for one that is none."""
    found = {str(k): str(v) for k, v in dict(config.get("headers") or {}).items()}
    if config.get("bearer_token"):
        found["authorization"] = f"Bearer {config['bearer_token']}"
    for name, value in found.items():
        if not _HEADER.fullmatch(name) or name.lower() in _FORBIDDEN or not value.isprintable() or len(value) > 4000:
            raise DocumentFault("option", f"headers: {name[:100]!r} is not a header that can be sent")
    return found


def judge(status: int, body: bytes, polls: int) -> Answer:
    """200 and 204 are taken. An answer with `retry_in` (seconds) is tried again then, 32 times; without, the workflow's back-off applies."""
    if status in TAKEN:
        return Answer(TaskStatus.OK)
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    code, message = (
        str(said.get("code") or f"http_{status}")[:100],
        str(said.get("message") or f"The address answered {status}.")[:1000],
    )
    wait = said.get("retry_in")
    if not isinstance(wait, (int, float)) or isinstance(wait, bool) or not 0 <= wait <= MAX_RETRY_IN_S:
        return Answer(TaskStatus.ERR, code, message)
    if polls >= MOST_WAITS:
        return Answer(TaskStatus.KO, code, f"{message} It asked for more time {polls} times.")
    return Answer(TaskStatus.QUEUED, code, message, retry_in=float(wait))
