"""TLS to PostgreSQL, by the parameters of libpq in the URL: `sslmode`, `sslrootcert`, `sslcert`, `sslkey` (libpq, §34.19)."""

from __future__ import annotations

import ssl
from typing import Any

from sqlalchemy.engine import URL

from shared.errors import Stop

PARAMETERS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
PLAIN, TRIED, UNVERIFIED, VERIFIED = "disable", "prefer", "require", ("verify-ca", "verify-full")


def tls_of(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL without these parameters, and what asyncpg gets for them: nothing where the URL has none.

    `verify-full` compares the server's name, `verify-ca` its authority alone. Without `sslrootcert` the system's authorities count.
    Raises `Stop` for another mode, for a file without a mode, and for a file that cannot be read.
    """
    given = {name: str(url.query[name]) for name in PARAMETERS if name in url.query}
    plain = url.difference_update_query(PARAMETERS)
    if not given:
        return plain, {}
    mode = given.get("sslmode", "")
    if mode == PLAIN:
        return plain, {"ssl": False}
    if mode == TRIED and len(given) == 1:
        return plain, {"ssl": "prefer"}
    if mode != UNVERIFIED and mode not in VERIFIED:
        raise Stop(
            "database_tls",
            f"STAGELINE_DATABASE_URL: sslmode is {mode!r}; disable, prefer, require, verify-ca or verify-full is expected",
        )
    return plain, {"ssl": _context(mode, given)}


def _context(mode: str, given: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("sslrootcert"))
        if "sslcert" in given:
            context.load_cert_chain(given["sslcert"], given.get("sslkey"))
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(f"{name}={given[name]}" for name in PARAMETERS[1:] if name in given)
        raise Stop("database_tls", f"STAGELINE_DATABASE_URL: {named}: {error}") from None
    context.check_hostname = mode == "verify-full"
    if mode == UNVERIFIED:
        context.verify_mode = ssl.CERT_NONE
    return context
