"""The client's address behind trusted proxies, and lists of networks."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.core.throttle import Address, network
from gateway.edge.http import address
from gateway.edge.http.address import Networks, TrustedProxies

TRUSTED_PROXIES = TrustedProxies(["127.0.0.0/8", "::1", "10.0.0.0/8"])


def real_ip(peer: str, *headers: tuple[str, str]) -> str:
    request = make_mocked_request("GET", "/", headers=CIMultiDict(headers)).clone(remote=peer)
    return str(TRUSTED_PROXIES.real_ip(request))


# reference 14.2-a
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "127.0.0.1"),
        ([("X-Real-IP", "192.0.2.1")], "192.0.2.1"),
        ([("X-Real-IP", " 192.0.2.1 ")], "192.0.2.1"),
        ([("X-Real-IP", "2001:DB8::1")], "2001:db8::1"),
        ([("X-Real-IP", "::ffff:192.0.2.1")], "192.0.2.1"),
        ([("X-Real-IP", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")], "192.0.2.1"),
        ([("X-Real-IP", "unknown"), ("X-Forwarded-For", "192.0.2.2")], "192.0.2.2"),
        ([("X-Forwarded-For", "192.0.2.9, 192.0.2.2")], "192.0.2.2"),
        ([("X-Forwarded-For", "192.0.2.9, 192.0.2.2, 10.1.1.1, 127.0.0.2")], "192.0.2.2"),
        ([("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-For", "192.0.2.2,10.0.0.1")], "192.0.2.2"),
        ([("X-Forwarded-For", "192.0.2.2:4711, [::1]:99")], "192.0.2.2"),
        ([("X-Forwarded-For", "[2001:db8::7]:4711")], "2001:db8::7"),
        ([("X-Forwarded-For", "192.0.2.2, junk, , _hidden")], "192.0.2.2"),
        ([("X-Forwarded-For", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
        ([("X-Forwarded-For", "junk")], "127.0.0.1"),
        ([("X-Forwarded-For", "")], "127.0.0.1"),
        # Two proxies: the inner proxy adds the address of the outer proxy.
        ([("X-Real-IP", "10.0.0.6"), ("X-Forwarded-For", "203.0.113.7, 10.0.0.6")], "203.0.113.7"),
        (
            [("X-Real-IP", "10.0.0.6"), ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "10.0.0.6")],
            "203.0.113.7",
        ),
        ([("X-Real-IP", "::ffff:10.0.0.6"), ("X-Forwarded-For", "198.51.100.1, 203.0.113.7, 10.0.0.6")], "203.0.113.7"),
        ([("X-Real-IP", "10.0.0.6"), ("X-Forwarded-For", "2001:db8::7, 10.0.0.6")], "2001:db8::7"),
        ([("X-Real-IP", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.7, 10.0.0.7, 10.0.0.6")], "203.0.113.7"),
        ([("X-Real-IP", "203.0.113.7"), ("X-Forwarded-For", "203.0.113.7, 10.0.0.6")], "203.0.113.7"),
        # All are trusted: a client in the network of the proxies.
        ([("X-Real-IP", "10.0.0.6")], "10.0.0.6"),
        ([("X-Real-IP", "10.0.0.6"), ("X-Forwarded-For", "junk")], "10.0.0.6"),
        ([("X-Real-IP", "10.0.0.6"), ("X-Forwarded-For", "10.0.0.3, 10.0.0.6")], "10.0.0.3"),
        # The proxy adds a line to a line that the client forged.
        ([("X-Real-IP", "192.0.2.66"), ("X-Real-IP", "203.0.113.7")], "203.0.113.7"),
        ([("X-Forwarded-For", "192.0.2.66"), ("X-Forwarded-For", "203.0.113.7")], "203.0.113.7"),
        ([("Forwarded", "for=192.0.2.66")], "127.0.0.1"),
    ],
)
def test_headers_of_a_trusted_proxy_are_used(headers: list[tuple[str, str]], expected: str) -> None:
    assert real_ip("127.0.0.1", *headers) == expected


def test_forged_addresses_before_that_of_the_client_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing them would take 12 ms for each request."""
    parsed: list[str] = []
    original = address._parse

    def parse(text: str) -> Address | None:
        parsed.append(text)
        return original(text)

    monkeypatch.setattr(address, "_parse", parse)
    assert real_ip("127.0.0.1", ("X-Forwarded-For", "1," * 4000 + "192.0.2.66, 203.0.113.7, 10.0.0.6")) == "203.0.113.7"
    assert len(parsed) < 10


# reference 14.2-a
def test_headers_of_an_untrusted_peer_are_ignored() -> None:
    forged = [("X-Real-IP", "127.0.0.1"), ("X-Forwarded-For", "127.0.0.1")]
    assert real_ip("192.0.2.1", *forged) == "192.0.2.1"
    assert real_ip("2001:db8::1", *forged) == "2001:db8::1"


def test_ipv4_mapped_peer_is_the_ipv4_address() -> None:
    assert real_ip("::ffff:127.0.0.1", ("X-Real-IP", "192.0.2.1")) == "192.0.2.1"


async def test_peer_of_a_unix_socket_counts_as_loopback(tmp_path: Path) -> None:
    async def answer_address(request: web.Request) -> web.Response:
        return web.Response(text=str(TRUSTED_PROXIES.real_ip(request)))

    app = web.Application()
    app.router.add_get("/", answer_address)
    runner = web.AppRunner(app)
    await runner.setup()
    path = str(tmp_path / "s")
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        async with session.get("http://h/") as response:
            assert await response.text() == "127.0.0.1"
        async with session.get("http://h/", headers={"X-Real-IP": "192.0.2.1"}) as response:
            assert await response.text() == "192.0.2.1"
    await runner.cleanup()


def test_networks_contain_addresses_of_their_entries() -> None:
    networks = Networks(["192.0.2.0/30", "::1", "10.9.9.9/8"])
    inside = ["192.0.2.3", "::1", "10.1.1.1"]
    assert [text for text in [*inside, "192.0.2.4", "::2"] if ip_address(text) in networks] == inside
    with pytest.raises(ValueError, match="localhost"):
        Networks(["localhost"])


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("", ip_address("127.0.0.1")),  # a unix socket
        ("127.0.0.2", ip_address("127.0.0.2")),
        ("::ffff:10.0.0.6", ip_address("10.0.0.6")),
        ("192.0.2.1", network(ip_address("192.0.2.1"))),
        ("::ffff:192.0.2.1", network(ip_address("192.0.2.1"))),
        ("2001:db8::7", network(ip_address("2001:db8::8"))),
        ("fe80::1%eth0", network(ip_address("fe80::2"))),
    ],
)
def test_peer_is_counted_by_its_network_and_a_trusted_proxy_by_its_address(peer: str, counted: object) -> None:
    assert TRUSTED_PROXIES.counted(peer) == counted
