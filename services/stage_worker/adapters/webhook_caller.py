"""`http.webhook`: a step that calls a URL of the workflow, by the rules of Invopop's webhook step (reference/vendor-apis.md §2.7)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp

from contracts import derived
from services.stage_worker.core.document_fault import DocumentFault
from shared.net.address_guard import AddressRefused, check_url, guarded_connector
from shared.net.networks import Networks
from stageline_kit import Failed, Queued, Task, TryAgain

SUCCESS = (200, 204)
MAX_POLLS = 32
"""Attempts after an answer with `retry_in`; then the step fails."""
MAX_ANSWER_BYTES = 65_536
MAX_RETRY_IN_S = 86_400.0
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_FORBIDDEN = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type"})


class WebhookCaller:
    """`WebhookCalls` over HTTP. `trusted` internal networks may be called."""

    def __init__(self, trusted: Networks) -> None:
        self.trusted = trusted
        self._session: aiohttp.ClientSession | None = None

    async def call_url(self, task: Task) -> None:
        """POST the step's payload.

        `config`: `url`, `event`, `headers`, `bearer_token`, and what the gateway adds of the job (`key`, `args`, `silo_entry_id`).
        """
        url = str(task.config.get("url", ""))
        try:
            check_url(url, self.trusted)
            status, body = await self._post(url, json.dumps(make_payload(task)).encode(), make_headers(task.config))
        except AddressRefused as error:
            raise DocumentFault("ssrf_refused", f"The address is not allowed: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__ or error.__context__, AddressRefused):
                raise DocumentFault("ssrf_refused", "The address is not allowed.") from None
            reason = f"The address could not be reached: {error or type(error).__name__}"[:1000]
            raise TryAgain("unreachable", reason) from None
        judge_answer(status, body, task.polls)

    async def _post(self, url: str, body: bytes, more: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=30, connect=5)
            self._session = aiohttp.ClientSession(connector=guarded_connector(self.trusted), timeout=timeout, trust_env=False)
        sent = {"content-type": "application/json", "user-agent": "Stageline/0.1", **more}
        async with self._session.post(url, data=body, headers=sent, allow_redirects=False) as answer:
            return answer.status, await answer.content.read(MAX_ANSWER_BYTES)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)


def make_payload(task: Task) -> dict[str, Any]:
    """Body of the request. It holds no content; the receiver fetches that."""
    failure = task.inputs.get("failure", {})
    faults = [{"provider": "stageline", "message": str(m)} for m in failure.get("errors", [])]
    return {
        "id": derived(task.job_id, task.step, task.attempt, "webhook"), "event": task.config.get("event", task.step),
        "transform_job_id": task.job_id, "silo_entry_id": task.config.get("silo_entry_id"), "owner_id": task.tenant_id,
        "key": task.config.get("key"), "args": task.config.get("args") or {}, "faults": faults,
    }  # fmt: skip


def make_headers(config: dict[str, Any]) -> dict[str, str]:
    """The step's own headers. Raises `DocumentFault` for a name or value that HTTP does not allow."""
    found = {str(k): str(v) for k, v in dict(config.get("headers") or {}).items()}
    if config.get("bearer_token"):
        found["authorization"] = f"Bearer {config['bearer_token']}"
    for name, value in found.items():
        if not _HEADER.fullmatch(name) or name.lower() in _FORBIDDEN or not value.isprintable() or len(value) > 4000:
            raise DocumentFault("option", f"headers: {name[:100]!r} is not a header that can be sent")
    return found


def judge_answer(status: int, body: bytes, polls: int) -> None:
    """Return for 200 and 204. Raises `Queued` for an answer with `retry_in` (seconds), `Failed` after 32 of those, else `TryAgain`."""
    if status in SUCCESS:
        return
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    code = str(answer.get("code") or f"http_{status}")[:100]
    message = str(answer.get("message") or f"The address answered {status}.")[:1000]
    wait = answer.get("retry_in")
    if not isinstance(wait, (int, float)) or isinstance(wait, bool) or not 0 <= wait <= MAX_RETRY_IN_S:
        raise TryAgain(code, message)
    if polls >= MAX_POLLS:
        raise Failed(code, f"{message} It asked for more time {polls} times.")
    raise Queued(float(wait), code, message)
