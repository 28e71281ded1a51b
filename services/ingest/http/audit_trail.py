"""Enters refusals (401, 403) and downloads by people into the audit, whichever route answers."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import Depends, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.store import accounts
from services.ingest.adapters.store.audit import Entry
from services.ingest.adapters.store.audit_trail import DOWNLOADS, MISSING_RIGHTS, REFUSALS
from services.ingest.http.dependencies import PLATFORM_TENANT
from shared import clock
from shared.errors import Retry
from shared.web.api_keys import Principal
from shared.web.client_address import client_address

log = logging.getLogger(__name__)
SENT = (200, 206)


async def _mark(request: Request) -> None:
    request.state.download = True


DOWNLOAD = Depends(_mark)
"""Dependency of every route that answers with content of documents."""


class AuditedAnswers:
    """ASGI middleware: enters an answer into the audit before it is sent, as far as the audit covers it."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self.app = app
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                state = scope.get("state", {})
                if message["status"] in (401, 403):
                    await self._refused(scope, state, message["status"])
                elif message["status"] in SENT and state.get("download") and scope["method"] != "HEAD":
                    await self._downloaded(scope, state)
            await send(message)

        await self.app(scope, receive, watched)

    async def _refused(self, scope: Scope, state: dict[str, Any], status: int) -> None:
        address, route, who = client_address(scope), _route(scope), state.get("principal")
        reason = state.get("refusal") or ("forbidden" if status == 403 else "no_valid_credential")
        entry = Entry(
            tenant=who.tenant_id if who else PLATFORM_TENANT, at=clock.unix(), verb="refused", subject=route if who else address,
            by=who.tenancy.user_name if who else "", ok=False, code=reason, message=f"{status} {route}", address=address,
        )  # fmt: skip
        if await self.gateway.audit_trail.note(entry, MISSING_RIGHTS if who else REFUSALS):
            # The first of its kind in this minute: the log is bounded as the audit is.
            facts = {
                "status": status,
                "reason": reason,
                "address": address,
                "route": route,
                "application": state.get("application"),
            }
            log.warning("request refused", extra=facts)

    async def _downloaded(self, scope: Scope, state: dict[str, Any]) -> None:
        who: Principal | None = state.get("principal")
        link = state.get("shared_link")
        address, subject = client_address(scope), str(scope["path"])[:300]
        if link is not None:
            entry = Entry(link.tenant_id, clock.unix(), "share.download", link.file_id, address=address)
        elif who is not None and await self._is_person(who):
            entry = Entry(who.tenant_id, clock.unix(), "download", subject, who.tenancy.user_name, address=address)
        else:
            return
        await self.gateway.audit_trail.note(entry, DOWNLOADS)

    async def _is_person(self, who: Principal) -> bool:
        """True for a user that signs in with a password; programs have keys under other names."""
        try:
            return await self.gateway.store.read(lambda c: accounts.is_user(c, who.tenancy.user_name, who.tenant_id))
        except Retry as error:
            log.error("a download was not audited", extra={"by": who.tenancy.user_name, "reason": str(error)})
            return False


def _route(scope: Scope) -> str:
    """Method and path pattern; callers choose neither the pattern nor how many there are."""
    return f"{scope['method']} {getattr(scope.get('route'), 'path', 'unknown path')}"
