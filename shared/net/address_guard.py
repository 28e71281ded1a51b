"""Guard against requests to internal addresses (SSRF), for remote documents and webhooks.

Checking the URL is not enough, because of DNS rebinding and unusual address forms. aiohttp's socket factory therefore checks every
resolved address just before it connects. The lists are IANA's special-purpose address registries (RFC 6890).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from shared.errors import Outcome
from shared.net.networks import Networks
from shared.net.resolver import OwnThreadsResolver

log = logging.getLogger(__name__)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_BAD4 = [
    ipaddress.ip_network(n)
    for n in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
_BAD6 = [
    ipaddress.ip_network(n)
    for n in (
        "::/96", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10",
        "ff00::/8",
    )
]  # fmt: skip


class AddressRefused(Outcome):
    """This service never connects to that URL or address; a retry would be refused too."""

    def __init__(self, message: str) -> None:
        super().__init__("ssrf_refused", message)


def unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 form carries (mapped, compatible, NAT64, 6to4), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    packed = address.packed
    if packed[:12] == bytes.fromhex("0064ff9b") + b"\0" * 8 or packed[:6] == bytes.fromhex("0064ff9b0001"):
        return ipaddress.IPv4Address(packed[12:])
    if packed[:12] == b"\0" * 12 and packed[12:] not in (b"\0\0\0\0", b"\0\0\0\1"):
        return ipaddress.IPv4Address(packed[12:])
    return address


def is_public(text: str) -> bool:
    """True when an address belongs to the public internet. Raises `ValueError` when `text` is not an address."""
    address = unwrap(ipaddress.ip_address(text.partition("%")[0]))
    bad: Sequence[Any] = _BAD4 if isinstance(address, ipaddress.IPv4Address) else _BAD6
    return not any(address in network for network in bad)


def is_trusted(text: str, trusted: Networks) -> bool:
    """True for an address in one of the operator's `trusted` networks."""
    address = unwrap(ipaddress.ip_address(text.partition("%")[0]))
    return any(address in network for network in trusted if network.version == address.version)


def check_url(url: str, trusted: Networks = ()) -> None:
    """Check what needs no DNS: scheme, credentials, port and literal internal addresses.

    Only https on ports 443 and 8443 is allowed. A literal address in a `trusted` network may use http and any port, as may
    `localhost` where loopback is trusted. Raises `AddressRefused` naming the part.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressRefused(f"url: {error}") from error
    if not host:
        raise AddressRefused("url: no host")
    if parts.username or parts.password:
        raise AddressRefused("url: credentials in the URL are refused")
    literal = _literal(host)
    if literal is not None and is_trusted(literal, trusted):
        if parts.scheme not in ("http", "https"):
            raise AddressRefused(f"url: scheme {parts.scheme!r} is refused")
        return
    own = host == "localhost" and is_trusted("127.0.0.1", trusted)
    if parts.scheme != "https" and not (own and parts.scheme == "http"):
        raise AddressRefused(f"url: scheme {parts.scheme!r} is refused, https is expected")
    if port not in (None, 443, 8443) and not own:
        raise AddressRefused(f"url: port {port} is refused")
    if literal is not None and not is_public(literal):
        raise AddressRefused(f"url: {host} is an internal address")


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def guarded_session(
    trusted: Networks, total_s: float, connect_s: float, read_s: float | None = None, auto_decompress: bool = True
) -> aiohttp.ClientSession:
    """An HTTP client that raises `AddressRefused` instead of connecting to an internal address outside `trusted`.

    It keeps no cookies and uses no proxy. Times in seconds: of a whole request, to connect, and between two parts of the answer.
    It sets no limit of connections: a request that waits for one would count that time as the receiver's. Callers bound their requests.
    """

    def factory(info: Any) -> socket.socket:
        family, kind, proto, _, address = info
        host = str(address[0])
        if not (is_public(host) or is_trusted(host, trusted)):
            # The name's address is for the operator alone: a caller could map the internal network by such answers.
            log.warning("a connection to an internal address was refused", extra={"address": host})
            raise AddressRefused("it leads to an internal address")
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        return sock

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=factory, limit=0, ttl_dns_cache=30, resolver=OwnThreadsResolver()),
        timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=min(connect_s, total_s), sock_read=read_s), trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=auto_decompress,
    )  # fmt: skip


def refusal_of(error: BaseException) -> AddressRefused | None:
    """The refusal that the HTTP library wrapped in errors of its own; None when something else went wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


_IN_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (TimeoutError, "no answer in time"),
    (aiohttp.InvalidURL, "it is not a valid address"),
    (aiohttp.ClientConnectorDNSError, "its name could not be resolved"),
    ((aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError), "its certificate is not valid"),
    ((aiohttp.ClientSSLError, ssl.SSLError), "a TLS connection could not be made"),
)


def failure_in_words(error: BaseException) -> str:
    """Why a request failed, for the caller. Never the library's own text: it names the addresses that a name resolved to."""
    said = next((words for kind, words in _IN_WORDS if isinstance(error, kind)), None)
    if said is not None:
        return said
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number).lower()
    return "no connection could be made" if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
