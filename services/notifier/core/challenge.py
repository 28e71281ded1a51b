"""The challenge by which an address proves that its owner wants our events."""

from __future__ import annotations

import hmac
import json

from services.notifier.core.delivery import Result


def challenge_body(token: str, challenge: str) -> bytes:
    """The body that the address gets, in the vendor's form."""
    return json.dumps({"token": token, "challenge": challenge, "type": "url_verification"}).encode()


def judge(result: Result, challenge: str) -> tuple[str | None, str | None]:
    """(None, None) when the response holds the challenge, plain or as JSON `{"challenge": …}`; else an error code and a sentence."""
    if result.error is not None:
        return result.error, f"The address could not be reached: {result.detail or result.error}"[:1000]
    if result.status_code is None or not 200 <= result.status_code < 300:
        return "challenge_failed", f"The address answered the challenge with {result.status_code}."
    answer = (result.detail or "").strip()
    try:
        value = json.loads(answer)
        answer = str(value.get("challenge", "")) if isinstance(value, dict) else str(value)
    except (ValueError, RecursionError):
        pass
    if hmac.compare_digest(answer.encode("utf-8", "replace"), challenge.encode()):
        return None, None
    return "challenge_failed", "The address did not answer with the challenge."
