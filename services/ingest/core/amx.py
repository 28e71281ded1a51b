"""Alfred's `amx` signatures, byte for byte as its clients make them (reference/vendor-apis.md §1.7). Pure.

text = secretKey ‖ METHOD ‖ uri ‖ Unix seconds ‖ nonce ‖ body digest, signed with HMAC-SHA256 under the base64-decoded API key.
The vendor's clients differ in the uri alone: with or without the query string, and in what their encoders leave as it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote

_HEADER = re.compile(
    r"(?P<app>[A-Za-z0-9_\-]{8,100}):(?P<signature>[A-Za-z0-9+/]{43}=):(?P<nonce>[A-Za-z0-9\-]{8,64}):(?P<at>[0-9]{9,11})"
)


@dataclass(frozen=True, slots=True)
class AmxHeader:
    """The signature's fields. `app_id` is the vendor's "secret key", which is sent in clear; `timestamp` is in Unix seconds."""

    app_id: str
    signature: str
    nonce: str
    timestamp: str


@dataclass(frozen=True, slots=True)
class Target:
    """The requested URL as it came over the wire: `path` still encoded, `query` without its question mark."""

    schemes: tuple[str, ...]
    host: str
    path: str
    query: str


def parse(value: str) -> AmxHeader | None:
    """The value after `amx ` in the Authorization header; None when it is malformed."""
    found = _HEADER.fullmatch(value)
    return AmxHeader(found["app"], found["signature"], found["nonce"], found["at"]) if found else None


def fresh(header: AmxHeader, now: float, window_s: float) -> bool:
    """True when the client's clock is within `window_s` seconds of `now`."""
    return abs(now - int(header.timestamp)) <= window_s


def body_digest(md5: bytes | None) -> str:
    """The digest as it stands in the signed text: base64 of the body's MD5; empty without a body."""
    return "" if md5 is None else base64.b64encode(md5).decode()


def md5_of(body: bytes) -> bytes | None:
    """MD5 of a body; None for an empty body."""
    return hashlib.md5(body, usedforsecurity=False).digest() if body else None


def uris(target: Target) -> Iterable[str]:
    """Every form of the encoded, lower-cased URL that one of the vendor's clients signs."""
    # The Node.js client joins its base URL and a path without a look at the slash between them. The HTTP library mends the request
    # but not the signed text, which then has no slash there, or two.
    paths = dict.fromkeys(f"{slash}{path[1:]}" for path in (target.path, unquote(target.path)) for slash in ("/", "", "//"))
    queries = dict.fromkeys(("", *((f"?{target.query}", f"?{unquote(target.query)}") if target.query else ())))
    for scheme in target.schemes:
        for path in paths:
            for query in queries:
                url = f"{scheme}://{target.host}{path}{query}"
                yield from dict.fromkeys(encode(url).lower() for encode in _ENCODERS)


def _dotnet(url: str) -> str:
    return quote_plus(url, safe="!()*").replace("~", "%7E")


def _plain(url: str) -> str:
    return quote(url, safe="")


def _javascript(url: str) -> str:
    return quote(url, safe="!'()*")


def _go(url: str) -> str:
    return quote_plus(url, safe="")


# encodeURIComponent, urllib's quote and EscapeDataString, Go's QueryEscape, .NET's UrlEncode.
_ENCODERS = (
    _javascript,
    _plain,
    _go,
    _dotnet,
)


def signature(app_id: str, key: bytes, method: str, uri: str, header: AmxHeader, digest: str) -> str:
    """The signature that a client with this key sends."""
    text = f"{app_id}{method.upper()}{uri}{header.timestamp}{header.nonce}{digest}"
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def verified(header: AmxHeader, key: bytes, method: str, target: Target, digest: str) -> bool:
    """True when the header signs this request. Takes the same time whichever form of the URL matches."""
    right = False
    for uri in uris(target):
        # Compare texts, not bytes: base64 has several texts for the same bytes, and only one of them is accepted.
        right |= hmac.compare_digest(signature(header.app_id, key, method, uri, header, digest), header.signature)
    return right


def decode_key(api_key: str) -> bytes | None:
    """The HMAC key in an API key; None when it is not base64."""
    try:
        return base64.b64decode(api_key, validate=True)
    except (binascii.Error, ValueError):
        return None
