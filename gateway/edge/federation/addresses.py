"""The rule for addresses that the gateway may connect to on behalf of a client: public unicast addresses only.

A client chooses the host, so that a name or an address may lead into the operator's own network (server-side request
forgery, docs/threat-model.md). An IPv6 address that contains an IPv4 address is refused unless the IPv4 address
is allowed, in some forms always.

Source: IANA's registries of special-purpose addresses (RFC 6890); RFC 4291 (IPv4-mapped, IPv4-compatible), RFC 6052 and
8215 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 5214 (ISATAP).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network

from gateway.core.throttle import Address
from gateway.edge.http.address import Networks

# Special networks that ``is_global`` of some Python versions lets pass. 6to4 and Teredo are refused whatever IPv4
# address they contain: no server is reached by them any more.
_SPECIAL_NETWORKS = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_PUBLIC_IPV6 = IPv6Network("2000::/3")  # all IPv6 addresses that are assigned globally
_MAPPED_IPV4 = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = 0x5EFE  # second 16 bits of the interface id (RFC 5214, 6.1)


def is_allowed(text: str, exceptions: Networks) -> bool:
    """Return whether the gateway may connect to an address: a public one, or one in ``exceptions``.

    ``text`` that is no address is refused. An IPv4-mapped or NAT64 address is allowed if its IPv4 address is.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if address in exceptions:
        return True
    if isinstance(address, IPv4Address):
        return _is_public(address)
    if address.scope_id is not None:  # only link-local addresses need a zone
        return False
    embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _MAPPED_IPV4 or address in _NAT64:
        return is_allowed(str(embedded), exceptions)
    upper = int(address) >> 32 & 0xFFFFFFFF  # upper half of the interface id; the lower half is the IPv4 address
    if upper & 0xFFFF == _ISATAP and upper >> 16 in (0, 0x200) and not is_allowed(str(embedded), exceptions):
        return False
    return address in _PUBLIC_IPV6 and _is_public(address)


def _is_public(address: Address) -> bool:
    if any(address in network for network in _SPECIAL_NETWORKS if network.version == address.version):
        return False
    if address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback:
        return False
    return address.is_global and not address.is_link_local
