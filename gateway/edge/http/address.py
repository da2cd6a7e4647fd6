"""The address of the client behind trusted proxies, and lists of addresses and networks.

Source: reference 14.2, 14.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

from gateway.core.throttle import Address, network
from gateway.edge.http.request_head import RequestHead

# Headers by which proxies tell that they forward a request.
_FORWARDING_HEADERS = ("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via")
_LOOPBACK = IPv4Address("127.0.0.1")  # the peer address of a unix socket


class Networks:
    """A list of addresses and networks."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Read the list.

        Raises:
            ValueError: an entry is neither an address nor a network.
        """
        self._networks = tuple(ip_network(text, strict=False) for text in texts)

    def replace_with(self, other: Networks) -> None:
        """Replace the entries by those of another list; holders of this object see the change."""
        self._networks = other._networks

    @property
    def texts(self) -> list[str]:
        """The entries, as ``network/prefix length``."""
        return [str(network) for network in self._networks]

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


class TrustedProxies(Networks):
    """The proxies whose ``X-Real-IP`` and ``X-Forwarded-For`` headers are believed.

    ``on_untrusted`` is called with the address of an untrusted peer that forwards a request, and with the ``texts``.
    """

    def __init__(
        self,
        texts: Iterable[str],
        on_untrusted: Callable[[Address, Iterable[str]], None] = lambda peer, trusted: None,
    ) -> None:
        super().__init__(texts)
        self._on_untrusted = on_untrusted

    def hides_client(self, request: RequestHead) -> bool:
        """Return whether a peer that is not trusted has forwarded a request: the address of its client is not known."""
        return _peer(request) not in self and _is_forwarded(request)

    def counted(self, peer: str) -> int | Address:
        """Return the number of the network by which connections of a TCP peer are counted; a trusted proxy's address.

        So the other hosts of a proxy's network do not count as the proxy. An empty ``peer`` is that of a unix socket.
        """
        address = _parse_peer(peer) or _LOOPBACK
        return address if address in self else network(address)

    def real_ip(self, request: RequestHead) -> Address:
        """Return the address of the client.

        For a trusted peer: ``X-Real-IP``, or the last address of ``X-Forwarded-For`` that is no trusted proxy; if both
        contain trusted proxies only, the first address of ``X-Forwarded-For``, or ``X-Real-IP``. For any other peer:
        its own address. The peer of a unix socket counts as 127.0.0.1.
        """
        peer = _peer(request)
        if peer not in self:
            if _is_forwarded(request):
                self._on_untrusted(peer, self.texts)
            return peer
        headers = request.headers
        named = _parse(headers.getall("X-Real-IP", ("",))[-1])  # the last is the nearest proxy's
        if named is not None and named not in self:
            return named
        farthest = None
        # From the end, since a client may have written thousands of addresses in front.
        for part in reversed(",".join(headers.getall("X-Forwarded-For", ())).split(",")):
            hop = _parse(part)
            if hop is not None and hop not in self:
                return hop
            farthest = hop or farthest
        return farthest or named or peer


def named_addresses(request: RequestHead) -> list[Address | None]:
    """Return the peer's address and each address in the headers of reference 14.2, from a trusted proxy or not.

    An entry that is not an address is ``None``.
    """
    headers = request.headers
    texts = [*headers.getall("X-Real-IP", ()), *",".join(headers.getall("X-Forwarded-For", ())).split(",")]
    return [_peer(request), *(_parse(text) for text in texts if text.strip())]


def _is_forwarded(request: RequestHead) -> bool:
    return any(name in request.headers for name in _FORWARDING_HEADERS)


def _peer(request: RequestHead) -> Address:
    return _parse_peer(request.remote or "") or _LOOPBACK


@lru_cache(maxsize=1024)  # of few proxies, or of addresses from which many clients connect
def _parse_peer(text: str) -> Address | None:
    return _parse(text)


def _parse(text: str) -> Address | None:
    """Parse an address with or without a port; an IPv4-mapped IPv6 address becomes the IPv4 address."""
    text = text.strip()
    if not text:  # usual, since a client behind no proxy sends no such header: without the cost of an exception
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = None if isinstance(address, IPv4Address) else address.ipv4_mapped
    return mapped or address
