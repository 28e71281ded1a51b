"""`http.webhook`: a step that calls a URL of the workflow, by the rules of Invopop's webhook step (reference/vendor-apis.md §2.7)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from contracts import derived
from contracts.actions import KEPT_HEADERS
from contracts.secrecy import HIDDEN, reference
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.ports import Secrets
from shared.net.address_guard import AddressRefused, check_url, failure_in_words, guarded_session, refusal_of
from shared.net.networks import Networks
from shared.version import USER_AGENT
from stageline_kit import Failed, Queued, Task, TryAgain

SUCCESS = (200, 204)
MAX_POLLS = 32
"""Attempts after an answer with `retry_in`; then the step fails."""
MAX_ANSWER_BYTES = 65_536
MAX_RETRY_IN_S = 86_400.0
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")


class WebhookCaller:
    """`WebhookCalls` over HTTP. `trusted` internal networks may be called; `secrets` opens what the step names."""

    def __init__(self, trusted: Networks, secrets: Secrets) -> None:
        self.trusted = trusted
        self.secrets = secrets
        self._session: aiohttp.ClientSession | None = None

    async def call_url(self, task: Task) -> None:
        """POST the step's payload.

        `config`: `url`, `event`, `headers`, `bearer_token`, and what the gateway adds of the job (`key`, `args`, `silo_entry_id`).
        """
        url = str(task.config.get("url", ""))
        try:
            check_url(url, self.trusted)
            headers, revealed = await self._headers(task, url)
            status, body = await self._post(url, json.dumps(make_payload(task)).encode(), headers)
        except AddressRefused as error:
            raise DocumentFault("ssrf_refused", f"The address is not allowed: {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if refusal_of(error) is not None:
                raise DocumentFault("ssrf_refused", "The address is not allowed.") from None
            raise TryAgain("unreachable", f"The address could not be reached: {failure_in_words(error)}") from None
        judge_answer(status, body, task.polls, revealed)

    async def _headers(self, task: Task, url: str) -> tuple[dict[str, str], list[str]]:
        """The step's own headers, and the values in them that no message may repeat."""
        found = make_headers(task.config)
        revealed = [str(task.config["bearer_token"])] if task.config.get("bearer_token") else []
        for name, value in found.items():
            prefix = "Bearer " if name == "authorization" and value.startswith("Bearer ") else ""
            named = value.removeprefix(prefix)
            if reference(named):
                secret = await self.secrets.reveal(task.tenant_id, named, url)
                revealed.append(secret)
                found[name] = prefix + secret
        check_headers(found)
        return found, revealed

    async def _post(self, url: str, body: bytes, more: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            self._session = guarded_session(self.trusted, 30, 5)
        sent = {"content-type": "application/json", "user-agent": USER_AGENT, **more}
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
    """The step's own headers, with references in place of secrets. Raises `DocumentFault` for what HTTP does not allow."""
    found = {str(k): str(v) for k, v in dict(config.get("headers") or {}).items()}
    if config.get("bearer_token"):
        found["authorization"] = f"Bearer {config['bearer_token']}"
    check_headers(found)
    return found


def check_headers(found: Mapping[str, str]) -> None:
    """Raises `DocumentFault` for a name or value that HTTP does not allow."""
    for name, value in found.items():
        if not _HEADER.fullmatch(name) or name.lower() in KEPT_HEADERS or not value.isprintable() or len(value) > 4000:
            raise DocumentFault("option", f"headers: {name[:100]!r} is not a header that can be sent")


def judge_answer(status: int, body: bytes, polls: int, secrets: Sequence[str] = ()) -> None:
    """Return for 200 and 204. Raises `Queued` for an answer with `retry_in` (seconds), `Failed` after 32 of those, else `TryAgain`.

    Where the answer repeats one of `secrets`, the message does not.
    """
    if status in SUCCESS:
        return
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    code = _without(secrets, str(answer.get("code") or f"http_{status}"))[:100]
    message = _without(secrets, str(answer.get("message") or f"The address answered {status}."))[:1000]
    wait = answer.get("retry_in")
    if not isinstance(wait, (int, float)) or isinstance(wait, bool) or not 0 <= wait <= MAX_RETRY_IN_S:
        raise TryAgain(code, message)
    if polls >= MAX_POLLS:
        raise Failed(code, f"{message} It asked for more time {polls} times.")
    raise Queued(float(wait), code, message)


def _without(secrets: Sequence[str], message: str) -> str:
    for secret in secrets:
        message = message.replace(secret, HIDDEN)
    return message
