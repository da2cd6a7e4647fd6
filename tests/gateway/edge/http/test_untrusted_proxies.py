"""Proxies that are not trusted: each is logged once, with the configuration that makes it trusted."""

from __future__ import annotations

import tomllib
from ipaddress import ip_address

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.untrusted_proxies import MAX_PEERS, UntrustedProxies
from tests.captured_log import captured_lines

TRUSTED_NETWORKS = ["127.0.0.0/8", "::1/128"]


def forward(proxies: TrustedProxies, peer: str, *headers: str) -> None:
    """Receive a request with headers of a proxy from a peer, which is not trusted."""
    given = CIMultiDict((header, "203.0.113.9") for header in headers)
    request = make_mocked_request("GET", "/", headers=given).clone(remote=peer)
    assert proxies.real_ip(request) == ip_address(peer)


@pytest.mark.parametrize("peer", ["10.1.2.3", "172.18.0.1", "192.168.1.1", "fd00::1"])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_private_peer_is_logged_once_with_the_configuration_that_makes_it_trusted(peer: str, header: str) -> None:
    proxies = TrustedProxies(TRUSTED_NETWORKS, UntrustedProxies().report)
    with captured_lines() as lines:
        for _ in range(3):
            forward(proxies, peer, header)
    (line,) = lines
    assert "203.0.113.9" not in line
    proposed = line.split("write under [http]: ")[1].rstrip().removesuffix('"').replace('\\"', '"')
    assert tomllib.loads(proposed) == {"trusted_proxies": [*TRUSTED_NETWORKS, peer]}


def test_loopback_is_named_if_it_is_not_trusted() -> None:
    with captured_lines() as lines:
        forward(TrustedProxies([], UntrustedProxies().report), "127.0.0.1", "X-Forwarded-For")
    assert ["127.0.0.1" in line for line in lines] == [True]


@pytest.mark.parametrize("peer", ["198.51.100.7", "2001:db8::7"])
def test_peer_that_may_be_a_client_is_not_named(peer: str) -> None:
    proxies = TrustedProxies(TRUSTED_NETWORKS, UntrustedProxies().report)
    with captured_lines() as lines:
        forward(proxies, peer, "X-Forwarded-For")
    (line,) = lines
    assert "ADDRESS: the address from which it connects" in line
    assert peer not in line


def test_requests_that_are_not_forwarded_and_trusted_proxies_are_not_logged() -> None:
    proxies = TrustedProxies(TRUSTED_NETWORKS, UntrustedProxies().report)
    with captured_lines() as lines:
        forward(proxies, "10.1.2.3")
        request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": "203.0.113.9"}).clone(remote="127.0.0.1")
        assert proxies.real_ip(request) == ip_address("203.0.113.9")
    assert lines == []


def test_hosts_of_one_ipv6_network_are_one_peer_which_is_reported_again_after_a_reload() -> None:
    untrusted = UntrustedProxies()
    proxies = TrustedProxies(TRUSTED_NETWORKS, untrusted.report)
    with captured_lines() as lines:
        forward(proxies, "fd00::1", "Via")
        forward(proxies, "fd00::2", "Via")
        untrusted.configuration_changed()
        forward(proxies, "fd00::2", "Via")
    assert len(lines) == 2


def test_forged_headers_of_many_clients_write_a_bounded_number_of_lines() -> None:
    proxies = TrustedProxies(TRUSTED_NETWORKS, UntrustedProxies().report)
    with captured_lines() as lines:
        for number in range(2 * MAX_PEERS):
            forward(proxies, f"198.51.{number}.1", "X-Forwarded-For")
    assert len(lines) == MAX_PEERS
