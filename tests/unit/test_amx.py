"""`amx` signatures: what the vendor's four clients send is accepted, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core import amx

KEY = base64.b64encode(bytes(range(32))).decode()
APP = "app_0123456789abcdef"
NONCE = "6f1c3f0e-3b8a-4d1e-9a55-0d8f3a2b1c4d"
HOST = "127.0.0.1:8080"


def client(method: str, signed_uri: str, body: bytes = b"", at: int = 1_700_000_000, nonce: str = NONCE) -> str:
    """The header as reference/vendor-apis.md §1.7 says it is made; written apart from the code under test."""
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() if body else ""
    text = APP + method + signed_uri + str(at) + nonce + digest
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    return f"{APP}:{signature}:{nonce}:{at}"


def accepted(value: str, method: str, path: str, query: str = "", body: bytes = b"", host: str = HOST) -> bool:
    header = amx.parse(value)
    if header is None:
        return False
    target = amx.Target(("https", "http"), host, path, query)
    key = amx.decode_key(KEY)
    assert key is not None
    return amx.verified(header, key, method, target, amx.body_digest(amx.md5_of(body)))


@pytest.mark.parametrize(
    ("encode", "with_query"),
    [
        pytest.param(lambda u: quote(u, safe="!'()*"), False, id="node"),
        pytest.param(lambda u: quote(u, safe=""), True, id="python"),
        pytest.param(lambda u: quote_plus(u), False, id="go"),
        pytest.param(lambda u: quote_plus(u, safe="!()*").replace("~", "%7E"), True, id="dotnet"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_client_of_the_vendor_is_understood(encode: object, with_query: bool, scheme: str) -> None:
    path, query = "/api/job/all", "currentPage=1&pageSize=20&name=a%20b(c)*~'"
    url = f"{scheme}://{HOST}{path}" + (f"?{query}" if with_query else "")
    assert accepted(client("GET", encode(url).lower()), "GET", path, query)  # type: ignore[operator]


def test_a_space_is_signed_as_it_was_written_or_as_it_travels() -> None:
    written, travels = f"http://{HOST}/api/tag/detail/price list", "/api/tag/detail/price%20list"
    for signed in (quote(written, safe=""), quote_plus(written), quote(f"http://{HOST}{travels}", safe="")):
        assert accepted(client("GET", signed.lower()), "GET", travels)


@pytest.mark.parametrize("signed", ["http://{}api/job/create", "http://{}//api/job/create", "http://{}/api/job/create"])
def test_a_missing_or_doubled_slash_before_the_path_is_the_node_clients(signed: str) -> None:
    made = client("POST", quote(signed.format(HOST), safe="!'()*").lower(), b"{}")
    assert accepted(made, "POST", "/api/job/create", "", b"{}")
    assert not accepted(made, "POST", "/api/job/creates", "", b"{}") and not accepted(made, "POST", "/xapi/job/create", "", b"{}")


def test_a_signature_of_another_request_is_refused() -> None:
    signed = quote(f"http://{HOST}/api/job/create", safe="").lower()
    good = client("POST", signed, b'{"session_id": "1"}')
    right = ("POST", "/api/job/create", "", b'{"session_id": "1"}')
    assert accepted(good, *right)
    assert not accepted(good, "PUT", *right[1:])
    assert not accepted(good, "POST", "/api/job/cancel/1", *right[2:])
    assert not accepted(good, "POST", "/api/job/create", "", b'{"session_id": "2"}')
    assert not accepted(good, *right, host="elsewhere:8080")
    header = amx.parse(good)
    assert header is not None and not amx.fresh(header, 1_700_000_301, 300) and amx.fresh(header, 1_700_000_300, 300)
    assert not amx.fresh(header, 1_699_999_699, 300)


@given(st.integers(0, 200), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_single_changed_character_is_accepted(place: int, character: str) -> None:
    signed = quote(f"http://{HOST}/api/job/all", safe="").lower()
    good = client("GET", signed)
    place %= len(good)
    changed = good[:place] + character + good[place + 1 :]
    # Another application id has another key, or none. The gateway looks it up.
    assert changed == good or changed.partition(":")[0] != APP or not accepted(changed, "GET", "/api/job/all")


@pytest.mark.parametrize(
    "value", ["", "a:b:c:d", f"{APP}:x:{NONCE}:1700000000", f"{APP}:{'A' * 44}:{NONCE}:1700000000", "x" * 9000]
)
def test_malformed_headers_are_refused(value: str) -> None:
    assert amx.parse(value) is None


def test_a_signature_has_one_spelling() -> None:
    signed = quote(f"http://{HOST}/api/job/all", safe="").lower()
    header = amx.parse(client("GET", signed))
    assert header is not None
    # The last character of 43 carries two bits that base64 does not use: another one decodes to the same bytes.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = header.signature[:42] + alphabet[alphabet.index(header.signature[42]) ^ 1] + "="
    assert base64.b64decode(other) == base64.b64decode(header.signature)
    key = amx.decode_key(KEY)
    assert key is not None
    target = amx.Target(("http",), HOST, "/api/job/all", "")
    assert amx.verified(header, key, "GET", target, "") and not amx.verified(
        replace(header, signature=other), key, "GET", target, ""
    )
