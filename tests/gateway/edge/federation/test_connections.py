"""Connections to other signaling servers, and attacks by the URL that a client chooses.

Source: reference 12.1; docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from gateway.core.limits import FederationRules
from gateway.edge.federation.connections import ADDRESS_REFUSED, TOO_LONG, RemoteWebSockets, authorities_context
from gateway.flows.ports import RemoteConnectionLost, RemoteMessageTooLong, RemoteUnavailable
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.federation.servers import OtherServer, ScriptedResolver, accept


async def code_of(sockets: RemoteWebSockets, url: str) -> str:
    """Try to connect, and return the code of the failure."""
    with pytest.raises(RemoteUnavailable) as caught:
        await sockets.connect(url)
    return caught.value.code


@asynccontextmanager
async def remote_websockets(
    rules: FederationRules, resolver: ScriptedResolver | None = None
) -> AsyncIterator[RemoteWebSockets]:
    """Yield the connector under test, and close it."""
    sockets = RemoteWebSockets("agent/1", rules, authorities_context(rules), time.monotonic, resolver)
    try:
        yield sockets
    finally:
        await sockets.close()


def scripted(rules: FederationRules, *answers: tuple[str, ...]) -> ScriptedResolver:
    """Return a resolver with these answers, the last of which it repeats."""
    return ScriptedResolver(rules, itertools.chain(answers, itertools.repeat(answers[-1])))


async def test_messages_pass_in_both_directions() -> None:
    async with OtherServer() as server, remote_websockets(server.rules()) as sockets:
        connection = await sockets.connect(f"http://127.0.0.1:{server.port}/path/")
        assert connection.features == {"a", "federation"}
        await connection.send('{"a":1}')
        assert await connection.receive() == '{"a":1}'
        assert server.requests == ["/path/spreed"]
        assert server.headers[0]["User-Agent"] == "agent/1"
        assert "Sec-WebSocket-Extensions" not in server.headers[0]


async def test_abort_ends_a_waiting_receive() -> None:
    async with OtherServer() as server, remote_websockets(server.rules()) as sockets:
        connection = await sockets.connect(f"http://127.0.0.1:{server.port}/")
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(RemoteConnectionLost):
            await waiting
        with pytest.raises(RemoteConnectionLost):
            await connection.send("x")
        connection.abort()


async def test_messages_above_the_limit_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with OtherServer() as server, remote_websockets(server.rules()) as sockets:
        connection = await sockets.connect(f"http://127.0.0.1:{server.port}/")
        await connection.send("x" * 1_048_576)
        assert len(await connection.receive()) == 1_048_576
        await connection.send("x" * 1_048_577)
        with pytest.raises(RemoteMessageTooLong):
            await connection.receive()
        with pytest.raises(RemoteConnectionLost):
            await connection.send("x")
        assert caplog.messages == [TOO_LONG]


async def test_pings_are_answered() -> None:
    answered: asyncio.Queue[bytes] = asyncio.Queue()

    async def ping(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(autoping=False)
        await response.prepare(request)
        await response.pong(b"unsolicited")
        await response.ping(b"1")
        answered.put_nowait((await response.receive()).data)
        await response.send_str("next")
        await response.receive()
        return response

    async with OtherServer(ping) as server, remote_websockets(server.rules()) as sockets:
        connection = await sockets.connect(f"http://127.0.0.1:{server.port}/")
        assert await connection.receive() == "next"
        assert answered.get_nowait() == b"1"


# attack: control frames
@pytest.mark.parametrize("opcode", [WSMsgType.PING, WSMsgType.PONG])
async def test_flood_of_control_frames_ends_the_connection(opcode: WSMsgType) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(autoping=False)
        await response.prepare(request)
        for _ in range(601):
            await (response.ping() if opcode is WSMsgType.PING else response.pong())
        await response.send_str("last")
        while not response.closed:
            await response.receive()
        return response

    async with OtherServer(flood) as server, remote_websockets(server.rules()) as sockets:
        connection = await sockets.connect(f"http://127.0.0.1:{server.port}/")
        with pytest.raises(RemoteConnectionLost):
            await connection.receive()


# reference 12.1-h
# attack: a URL of another scheme or port
@pytest.mark.parametrize(
    "url",
    ["http://other.example/", "https://other.example:8443/", "https://other.example:22/", "http://other.example:443/"],
)
async def test_other_schemes_and_ports_are_refused_before_the_name_is_resolved(url: str) -> None:
    resolver = scripted(FederationRules(), ("8.8.8.8",))
    async with remote_websockets(FederationRules(), resolver) as sockets:
        assert await code_of(sockets, url) == "not_allowed"
    assert resolver.look_ups == 0


# attack: a URL with an address of the operator's network
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]"])
async def test_literal_addresses_are_checked(host: str, caplog: pytest.LogCaptureFixture) -> None:
    async with OtherServer() as server, remote_websockets(server.rules_for_public_addresses()) as sockets:
        assert await code_of(sockets, f"http://{host}:{server.port}/") == "network_error"
        assert server.requests == []
    assert caplog.messages == [ADDRESS_REFUSED]


# attack: other notations of such an address, which the system's resolver understands
@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"])
async def test_other_notations_of_an_address_are_checked(host: str, caplog: pytest.LogCaptureFixture) -> None:
    async with OtherServer() as server, remote_websockets(server.rules_for_public_addresses()) as sockets:
        assert await code_of(sockets, f"http://{host}:{server.port}/") == "network_error"
        assert server.requests == []
    assert caplog.messages == [ADDRESS_REFUSED]


# attack: names that cannot be encoded for DNS, or decoded from it
@pytest.mark.parametrize("host", ["xn--1-7pbj", "xn--", "xn--a.example", "a" * 64, "a" * 300, "a..example"])
async def test_malformed_names_are_network_errors(host: str) -> None:
    async with remote_websockets(FederationRules()) as sockets:
        assert await code_of(sockets, f"https://{host}/") == "network_error"


# attack: a name with an address of the operator's network, alone or beside a public one
@pytest.mark.parametrize("answers", [("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("127.0.0.1", "8.8.8.8"), ("::1",)])
async def test_all_addresses_of_a_name_are_checked(answers: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    async with OtherServer() as server:
        rules = server.rules_for_public_addresses()
        resolver = scripted(rules, answers)
        async with remote_websockets(rules, resolver) as sockets:
            assert await code_of(sockets, f"http://other.example:{server.port}/") == "network_error"
        assert (resolver.look_ups, server.requests) == (1, [])
    assert caplog.messages == [ADDRESS_REFUSED]


# attack: DNS rebinding, a name whose address changes between the check and the connection
async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    async with OtherServer() as server:
        rules = FederationRules(allow_insecure=True, ports=(server.port,), allowed=("127.0.0.1/32",), timeout=5.0)
        resolver = scripted(rules, ("127.0.0.1",), ("127.0.0.2",))
        async with remote_websockets(rules, resolver) as sockets:
            await sockets.connect(f"http://other.example:{server.port}/")
            assert (resolver.look_ups, len(server.requests)) == (1, 1)  # one look-up for the check and the connection
            # A later connection is checked again: the first answer is not cached.
            assert await code_of(sockets, f"http://other.example:{server.port}/") == "network_error"
            assert (resolver.look_ups, len(server.requests)) == (2, 1)


async def test_changed_rules_hold_for_the_next_connection() -> None:
    async with OtherServer() as server:
        name, address = f"http://other.example:{server.port}/", f"http://127.0.0.1:{server.port}/"
        before = server.rules_for_public_addresses()
        async with remote_websockets(before, scripted(before, ("127.0.0.1",))) as sockets:
            assert [await code_of(sockets, url) for url in (name, address)] == ["network_error"] * 2
            sockets.apply(server.rules(), None)
            for url in (name, address):
                (await sockets.connect(url)).abort()


# attack: a redirect to the operator's network
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with OtherServer() as inner:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{inner.port}/spreed"})

        async with OtherServer(redirect) as server:
            rules = server.rules(inner.port)
            async with remote_websockets(rules) as sockets:
                assert await code_of(sockets, f"http://127.0.0.1:{server.port}/") == "network_error"
            assert (len(server.requests), inner.requests) == (1, [])


# attack: a proxy in the environment that would connect to any address
async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OtherServer() as proxy, OtherServer() as server, remote_websockets(server.rules()) as sockets:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await sockets.connect(f"http://127.0.0.1:{server.port}/")
        assert (proxy.requests, len(server.requests)) == ([], 1)


# attack: a server that never answers
async def test_connection_attempt_to_a_silent_server_times_out() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with OtherServer(silent) as server:
        rules = FederationRules(allow_insecure=True, ports=(server.port,), allowed=("127.0.0.1",), timeout=0.2)
        async with remote_websockets(rules) as sockets:
            assert await code_of(sockets, f"http://127.0.0.1:{server.port}/") == "network_error"


async def test_server_that_refuses_the_upgrade_is_a_network_error() -> None:
    async def missing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404)

    async with OtherServer(missing) as server, remote_websockets(server.rules()) as sockets:
        assert await code_of(sockets, f"http://127.0.0.1:{server.port}/") == "network_error"


async def test_certificates_of_authorities_are_read_again_after_a_reload(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    other = shutil.move(certificate, tmp_path / "other.pem")
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    authorities = tmp_path / "authorities.pem"
    shutil.copyfile(other, authorities)
    async with OtherServer(accept, context) as server:
        url = f"https://127.0.0.1:{server.port}/"
        async with remote_websockets(server.rules(authorities=authorities)) as sockets:
            assert await code_of(sockets, url) == "certificate_verification_error"
            shutil.copyfile(certificate, authorities)
            rules = server.rules(authorities=authorities)  # equal, but new, as after a reload
            sockets.apply(rules, authorities_context(rules))
            connection = await sockets.connect(url)
            connection.abort()


# attack: a server in the middle with another certificate
async def test_certificates_are_verified(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with OtherServer(accept, context) as server:
        rules = server.rules(authorities=certificate)
        async with remote_websockets(server.rules()) as sockets:
            assert await code_of(sockets, f"https://127.0.0.1:{server.port}/") == "certificate_verification_error"
        async with remote_websockets(rules) as sockets:
            connection = await sockets.connect(f"https://127.0.0.1:{server.port}/")
            await connection.send("x")
            assert await connection.receive() == "x"
        # The certificate is for 127.0.0.1, not for the name that the client chose.
        async with remote_websockets(rules, scripted(rules, ("127.0.0.1",))) as sockets:
            assert await code_of(sockets, f"https://other.example:{server.port}/") == "certificate_verification_error"
