"""Short-lived links to bytes: the link itself holds, sealed, what it leads to, until when, and on whose behalf."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import astuple, dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.ingest.adapters.store.link_keys import enter_link_secret, link_secret
from shared.database.store import Store

NONCE_BYTES, DAY_S = 12, 86_400
_TOKEN = re.compile(r"(\d{1,12})\.([A-Za-z0-9_-]{1,2000})")


@dataclass(frozen=True)
class Link:
    """What a link leads to. `credential` is that of the caller who got the link; the link holds as long as it does."""

    tenant_id: str
    credential: str
    kind: str
    owner_id: str
    part: str


class Seal:
    """Makes and opens the tokens of links. Each day has its own key, so that no key ever meets one nonce twice."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def token(self, link: Link, expires_at: int) -> str:
        """The token of a link that ends at `expires_at` (Unix seconds)."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher(expires_at).encrypt(nonce, json.dumps(astuple(link)).encode(), str(expires_at).encode())
        return f"{expires_at}.{base64.urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}"

    def link(self, token: str, now: float) -> Link | None:
        """The link of a token; None when it is over, or not ours."""
        found = _TOKEN.fullmatch(token)
        if found is None or int(found[1]) <= now:
            return None
        try:
            raw = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
            opened = self._cipher(int(found[1])).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], found[1].encode())
        except (binascii.Error, InvalidTag, ValueError):
            return None
        return Link(*json.loads(opened))

    def _cipher(self, expires_at: int) -> AESGCM:
        return AESGCM(hmac.digest(self._secret, f"link {expires_at // DAY_S}".encode(), hashlib.sha256))


class SignedLinks:
    """The seal of this installation. All replicas have the same, from the database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seal: Seal | None = None

    async def seal(self) -> Seal:
        """The seal, whose secret is made at the first call. Raises `Retry` when the database is away."""
        if self._seal is None:
            known, made = await self._store.read(link_secret), secrets.token_urlsafe(32)
            if known is None:
                known = await self._store.transact(lambda c: enter_link_secret(c, made))
            self._seal = Seal(known)
        return self._seal
