"""Warnings about peers that forward requests but are not in ``http.trusted_proxies``.

Source: docs/install.md, "Behind a reverse proxy". A proxy on loopback or in a private network is named in the line
to add; any other peer may be a client, whose address must not appear in the log (invariant 7).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from ipaddress import ip_network

from gateway.core.throttle import Address, network

MAX_PEERS = 64  # peers (IPv6: /64 networks) that are logged until the next reload

_IPV4 = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
_IPV6 = ("::1/128", "fc00::/7", "fe80::/10")
_PRIVATE_NETWORKS = tuple(map(ip_network, (*_IPV4, *_IPV6)))
log = logging.getLogger("portunus.http")


class UntrustedProxies:
    """Logs each untrusted peer that forwards requests once, IPv6 peers once for each /64 network."""

    def __init__(self) -> None:
        self._reported: set[int] = set()

    def report(self, peer: Address, trusted: Iterable[str]) -> None:
        """Log a peer, with the line of the configuration that would trust it; ``trusted``: the present entries."""
        if network(peer) in self._reported or len(self._reported) >= MAX_PEERS:
            return
        self._reported.add(network(peer))
        is_private = any(peer in private for private in _PRIVATE_NETWORKS)
        entries = [*trusted, str(peer) if is_private else "ADDRESS"]
        line = f"trusted_proxies = {json.dumps(entries)}"
        log.warning(
            "a peer that is not in http.trusted_proxies forwards requests: all clients behind it count as one address,"
            " and it gets no statistics; if it is your reverse proxy, write under [http]: %s%s",
            line,
            "" if is_private else " (ADDRESS: the address from which it connects)",
        )

    def configuration_changed(self) -> None:
        """Report each peer again, because the configuration has changed."""
        self._reported.clear()
