"""Internal networks that the operator allows for webhooks and remote files."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = tuple[Network, ...]
LOOPBACK: Networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def trusted_networks(allow_loopback: bool, networks: Sequence[Network] = ()) -> Networks:
    """The given `networks`, and loopback for development when `allow_loopback`."""
    return (*(LOOPBACK if allow_loopback else ()), *networks)
