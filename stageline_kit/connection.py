"""Connection settings of your program from `KAFKA_*` in the environment, as Stageline's services read them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOCAL = "127.0.0.1:29092"
SECURITY = ("security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")


def kafka_options(
    bootstrap_servers: str | None = None, given: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Keyword arguments for any aiokafka client.

    Addresses and security come from the environment (`os.environ` by default), unless `bootstrap_servers` or a security option
    among `given` says otherwise. Reads `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_MECHANISM`,
    `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD` or `KAFKA_SASL_PASSWORD_FILE`, and `KAFKA_SSL_CAFILE`, `KAFKA_SSL_CERTFILE`,
    `KAFKA_SSL_KEYFILE`. Raises `ValueError` naming what is missing, and `OSError` for a file that cannot be read.
    """
    given, read = given or {}, os.environ if environment is None else environment
    found: dict[str, Any] = {"bootstrap_servers": bootstrap_servers or read.get("KAFKA_BOOTSTRAP_SERVERS") or LOCAL}
    protocol = read.get("KAFKA_SECURITY_PROTOCOL") or "PLAINTEXT"
    if protocol != "PLAINTEXT" and not any(name in given for name in SECURITY):
        found["security_protocol"] = protocol
        if protocol.endswith("SSL"):
            found["ssl_context"] = _tls(read)
        if protocol.startswith("SASL"):
            found |= _user(read)
    return found | dict(given)


def _user(read: Mapping[str, str]) -> dict[str, Any]:
    user, password, file = (read.get(f"KAFKA_SASL_{name}") for name in ("USERNAME", "PASSWORD", "PASSWORD_FILE"))
    if not user:
        raise ValueError("KAFKA_SASL_USERNAME is needed")
    if not password and not file:
        raise ValueError("KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE is needed")
    return {
        "sasl_mechanism": read.get("KAFKA_SASL_MECHANISM") or "SCRAM-SHA-512", "sasl_plain_username": user,
        "sasl_plain_password": password or Path(str(file)).read_text().strip(),
    }  # fmt: skip


def _tls(read: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=read.get("KAFKA_SSL_CAFILE") or None)
    certificate = read.get("KAFKA_SSL_CERTFILE")
    if certificate:
        context.load_cert_chain(certificate, read.get("KAFKA_SSL_KEYFILE") or None)
    return context
