"""Addresses of files in answers: whole, readable without a header, and short-lived. The vendor's clients send no header with them."""

from __future__ import annotations

from typing import Any

from services.ingest.adapters.gateway import Gateway
from services.ingest.adapters.signed_links import Link, Seal
from services.ingest.http.links import public_link
from shared import clock
from shared.web.api_keys import Principal

Record = dict[str, Any]
LINK_S = 900
"""Seconds that an address holds. Each answer has new ones."""
LINKS = "/silo/v1/links"
ENTRY_FILE, FILE_OUTPUT, JOB_OUTPUT = "entry", "file_view", "job_view"
"""What a link leads to: a file of an entry, an output of a job's file, an output of a job. The last two are names of tables."""


class Links:
    """Makes the addresses in one answer. A link ends with the key of the caller who gets it, and with the file."""

    def __init__(self, gateway: Gateway, who: Principal, seal: Seal) -> None:
        self._gateway, self._who, self._seal = gateway, who, seal
        self._expires_at = int(clock.unix()) + LINK_S

    def files(self, entry_id: str, files: list[Record]) -> list[Record]:
        """Files of an entry with their addresses. That of a private file asks for the key."""
        return [{**file, "entry_id": entry_id, "url": self._file_url(entry_id, file)} for file in files]

    def output(self, kind: str, owner_id: str, number: int) -> str:
        """The address of the output `number` of a file or a job; `kind` says which."""
        return self._url(kind, owner_id, str(number))

    def _file_url(self, entry_id: str, file: Record) -> str:
        if file.get("private"):
            return public_link(self._gateway, f"/silo/v1/entries/{entry_id}/files/{file['id']}/content")
        return self._url(ENTRY_FILE, entry_id, file["id"])

    def _url(self, kind: str, owner_id: str, part: str) -> str:
        link = Link(self._who.tenant_id, self._who.credential, kind, owner_id, part)
        return public_link(self._gateway, f"{LINKS}/{self._seal.token(link, self._expires_at)}")


async def links_for(gateway: Gateway, who: Principal) -> Links:
    """The addresses for an answer to `who`."""
    return Links(gateway, who, await gateway.signed_links.seal())
