"""The addresses that the gateway connects to on behalf of a client (docs/threat-model.md, "Federation")."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.federation.addresses import is_allowed
from gateway.edge.http.address import Networks

NO_NETWORKS = Networks(())
REFUSED_IPV4 = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
)
REFUSED_IPV6 = (
    *("::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *(
        "2001:2::1",
        "2001:10::1",
        "100::1",
        "5f00::1",
        "3fff::1",
        "4000::1",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
    ),
)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "2a01:4f8::1"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, NO_NETWORKS)


@pytest.mark.parametrize("address", [*REFUSED_IPV4, *REFUSED_IPV6])
def test_special_addresses_are_refused(address: str) -> None:
    assert not is_allowed(address, NO_NETWORKS)


@pytest.mark.parametrize("address", REFUSED_IPV4)
def test_ipv6_forms_of_refused_addresses_are_refused(address: str) -> None:
    number = int(IPv4Address(address))
    forms = {
        "IPv4-mapped": f"::ffff:{address}",
        "IPv4-mapped, hexadecimal": f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}",
        "IPv4-compatible": f"::{address}",
        "IPv4-translated": f"::ffff:0:{address}",
        "NAT64": f"64:ff9b::{address}",
        "NAT64, local-use prefix": f"64:ff9b:1::{address}",
        "6to4": f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
        "Teredo, server": f"2001:0:{number >> 16:x}:{number & 0xFFFF:x}::1",
        "Teredo, client": f"2001:0:808:808::{~number >> 16 & 0xFFFF:x}:{~number & 0xFFFF:x}",
        "ISATAP": f"2606:4700::5efe:{address}",
        "ISATAP, universal": f"2606:4700::200:5efe:{address}",
    }
    assert [name for name, form in forms.items() if is_allowed(form, NO_NETWORKS)] == []


@pytest.mark.parametrize("address", ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700::5efe:8.8.8.8"])
def test_ipv6_forms_of_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, NO_NETWORKS)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "8.8.8.8:443", "[::1]", "8.8.8"]
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    assert not is_allowed(text, NO_NETWORKS)


def test_configured_networks_are_allowed_also_as_ipv6_forms_of_ipv4_addresses() -> None:
    allowed_networks = Networks(("10.1.0.0/16", "::1", "fd00::/8"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "::1", "fd12::1"):
        assert is_allowed(address, allowed_networks)
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "127.0.0.1", "fe80::1", "2002:a01:203::1"):
        assert not is_allowed(address, allowed_networks)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_special_ipv4_address_is_allowed(address: IPv4Address) -> None:
    special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    assert not (special and is_allowed(str(address), NO_NETWORKS))
    assert is_allowed(f"::ffff:{address}", NO_NETWORKS) == is_allowed(str(address), NO_NETWORKS)


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_only_global_unicast_ipv6_addresses_are_allowed(address: IPv6Address) -> None:
    if is_allowed(str(address), NO_NETWORKS):
        assert int(address) >> 125 == 0b001 or address.ipv4_mapped or str(address).startswith("64:ff9b::")
