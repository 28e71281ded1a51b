"""Internal addresses are refused in every form; public ones are not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.net.address_guard import AddressRefused, check_url, is_public, is_trusted
from shared.net.networks import LOOPBACK, trusted_networks

INTERNAL = [
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "192.88.99.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "3fff::1", "5f00::1", "fec0::1", "100::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1",
    "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]  # fmt: skip


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_every_form_of_an_ipv4_address_is_treated_alike(address: ipaddress.IPv4Address) -> None:
    packed = address.packed.hex()
    for form in (f"::ffff:{address}", f"64:ff9b::{packed[:4]}:{packed[4:]}", f"2002:{packed[:4]}:{packed[4:]}::"):
        assert is_public(form) == is_public(str(address)), form


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://127.0.0.1/", "https://[::1]/", "https://user:pw@example.com/", "https://example.com:22/", "file:///etc/passwd", "gopher://x/", "https://", "https://[bad/", "//example.com", ""],
)  # fmt: skip
def test_refused_urls(url: str) -> None:
    with pytest.raises(AddressRefused, match="url"):
        check_url(url, ())


def test_loopback_is_for_development_alone() -> None:
    check_url("http://127.0.0.1:8000/hook", LOOPBACK)
    check_url("https://example.com/hook", ())
    with pytest.raises(AddressRefused):
        check_url("http://10.0.0.1/", LOOPBACK)


def test_an_operator_may_allow_an_internal_network_and_only_that() -> None:
    trusted = trusted_networks(False, (ipaddress.ip_network("10.20.0.0/16"),))
    check_url("http://10.20.3.4:9000/hook", trusted)
    assert is_trusted("10.20.3.4", trusted) and is_trusted("::ffff:10.20.3.4", trusted)
    for url in ("http://10.21.0.1/", "http://127.0.0.1/", "ftp://10.20.3.4/", "http://u:p@10.20.3.4/", "http://example.com/"):
        with pytest.raises(AddressRefused):
            check_url(url, trusted)
