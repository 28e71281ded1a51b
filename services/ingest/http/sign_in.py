"""One attempt to sign in with a password: limits before the hash, the check, and what the audit learns.

No limit is by the user's name alone: a stranger who knows a name can slow down only the own address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.passwords import NO_PASSWORD
from services.ingest.adapters.store import accounts, audit, signins
from services.ingest.adapters.store.audit import Entry
from services.ingest.adapters.store.audit_trail import REFUSALS
from services.ingest.adapters.store.quotas import OverLimit, Rate
from services.ingest.http.dependencies import PLATFORM_TENANT
from shared import clock
from shared.errors import Retry
from shared.web.key_format import key_hash

UNKNOWN_NAME = "a name of no user"
"""Subject of failures at unknown names: the name itself may be a password in the wrong field."""


@dataclass
class Attempt:
    """An attempt of `address` at the password of `user_name`."""

    gateway: Gateway
    address: str
    user_name: str
    user: Any = None
    rate: Rate | None = None
    """The rate of sign-ins from the address, once this one is counted."""

    async def check(self, password: str) -> Any:
        """The user's row; None for a wrong name or password, or a disabled user.

        Raises `OverLimit` past a limit or within the delay of the pair, and `Retry` when too many passwords wait to be checked. Both
        come before the hash is computed.
        """
        store, now = self.gateway.store, clock.unix()
        known = await store.read(lambda c: signins.is_known(c, self.address, self.user_name, now))
        source = f"{self.address}/{key_hash(self.user_name)[:16]}" if known else self.address
        try:
            await self._take(source, known)
            with self.gateway.passwords.place(source, known):
                return await self._compare(password)
        except OverLimit:
            await self.note_failure("over_limit")
            raise
        except Retry as error:
            await self.note_failure(error.code)
            raise

    async def _take(self, source: str, known: bool) -> None:
        limits, settings = self.gateway.limits, self.gateway.settings
        self.rate = await limits.take(f"signin:{source}", settings.signins_per_minute)
        if not known:
            await limits.take("signin", settings.signins_per_minute_total)

    async def _compare(self, password: str) -> Any:
        store, now = self.gateway.store, clock.unix()
        wait = await store.transact(lambda c: signins.begin_attempt(c, self.address, self.user_name, now))
        if wait:
            raise OverLimit("Too many wrong passwords from this address.", int(wait) + 1)
        self.user = await store.read(lambda c: accounts.user_by_name(c, self.user_name))
        right = await self.gateway.passwords.matches(self.user.password_hash if self.user else NO_PASSWORD, password)
        return self.user if right and self.user is not None and not self.user.disabled else None

    async def note_failure(self, code: str) -> None:
        """Count a failure in the audit: of the user's tenant, or of the platform when the name is no user's."""
        user = self.user
        entry = Entry(
            tenant=user.tenant_id if user else PLATFORM_TENANT, at=clock.unix(), verb="sign_in",
            subject=user.user_name if user else UNKNOWN_NAME, ok=False, code=code, address=self.address,
        )  # fmt: skip
        await self.gateway.audit_trail.note(entry, REFUSALS)

    def enter_success(self, connection: Connection, user: Any) -> None:
        """Forget the pair's failures and enter the sign-in into the audit, in the transaction of the token."""
        now = clock.unix()
        signins.succeeded(connection, self.address, self.user_name, now)
        entry = Entry(user.tenant_id, now, "sign_in", user.user_name, user.user_name, address=self.address)
        audit.add_entries(connection, [entry])
