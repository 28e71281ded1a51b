"""Asks an address to repeat a word, which shows that its owner wants our events."""

from __future__ import annotations

import secrets

from services.notifier.core.challenge import challenge_body, judge
from services.notifier.ports import WebhookProbe


async def challenge(probe: WebhookProbe, url: str) -> tuple[str | None, str | None]:
    """Ask the owner of `url` to repeat a word. Returns as `judge`."""
    word = secrets.token_urlsafe(24)
    return judge(await probe.ask(url, challenge_body(secrets.token_urlsafe(16), word)), word)
