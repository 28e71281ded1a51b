"""The address of a caller, as limits and the audit name it. A proxy's headers count only where the operator trusts the proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

IPV6_PREFIX = 64
"""One IPv6 customer has a whole network of this length, so that limits count it as one address."""


def client_address(scope: Mapping[str, Any]) -> str:
    """The caller's address of an ASGI scope: an IPv4 address, an IPv6 network, or `unknown`."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)
