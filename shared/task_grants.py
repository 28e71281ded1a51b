"""What an attempt of a step may do at the gateway, as a text that the orchestrator signs and the gateway checks: HMAC-SHA256.

Both have the key from a file. The text travels in the task, so the readers of the task can use it; nobody can make or change one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from shared.errors import Stop

LEAST_KEY: Final = 32
"""Characters of the key at least."""
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,2000})\.([A-Za-z0-9_-]{43})")


def new_task_key() -> str:
    """A new key as the text of its file."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class TaskGrant:
    """One attempt: it may read objects of its tenant and store outputs for its job, until `expires_at` (Unix seconds)."""

    tenant_id: str
    job_id: str
    file_id: str | None
    lease: str
    expires_at: int


class TaskSeal:
    """Makes and checks the tokens of attempts. Raises `Stop` for a key that is too short."""

    def __init__(self, key: str) -> None:
        if len(key) < LEAST_KEY:
            raise Stop("task_key", f"the key of the addresses in tasks has {len(key)} characters; {LEAST_KEY} are needed")
        self._key = hmac.digest(key.encode(), b"stageline task grant", hashlib.sha256)

    @classmethod
    def from_file(cls, path: Path | None) -> TaskSeal | None:
        """The seal with the key in a file; None without a file. Raises `Stop` for a file that cannot be read or holds no key."""
        if path is None:
            return None
        try:
            return cls(path.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise Stop("task_key", f"{path}: {error}") from error

    def token(self, grant: TaskGrant) -> str:
        """The token of `grant`. The same grant always has the same token."""
        body = _encoded(json.dumps(astuple(grant)).encode())
        return f"{body}.{self._signature(body)}"

    def grant(self, token: str, now: float) -> TaskGrant | None:
        """The grant of a token; None when it is over, or not signed with our key."""
        found = _TOKEN.fullmatch(token)
        if found is None or not hmac.compare_digest(found[2], self._signature(found[1])):
            return None
        try:
            grant = TaskGrant(*json.loads(base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4))))
        except (binascii.Error, ValueError, TypeError):
            return None
        return grant if grant.expires_at > now else None

    def _signature(self, body: str) -> str:
        return _encoded(hmac.digest(self._key, body.encode(), hashlib.sha256))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
