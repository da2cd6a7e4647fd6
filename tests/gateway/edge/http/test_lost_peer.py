"""Requests on connections that the client has reset before they are accepted: their headers are not trusted."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from msgspec import structs

from gateway.core.throttle import Address
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.request_head import RequestHead
from tests.gateway.edge.http.handshakes import REQUEST_LINE, answer, head
from tests.gateway.edge.raw_client import WAIT_TIMEOUT
from tests.gateway.edge.serving import address_of, running_gateway
from tests.gateway.test_app import config

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
FORGED_HEADER = "X-Real-IP: 203.0.113.99"


# reference 14.2-a
@pytest.mark.parametrize(
    "sent",
    [
        head(REQUEST_LINE, FORGED_HEADER),
        head("GET /spreed?by=aiohttp HTTP/1.1", FORGED_HEADER),
        head(REQUEST_LINE, "Sec-WebSocket-Protocol: janus-events"),
        f"GET /metrics HTTP/1.1\r\nHost: h\r\n{FORGED_HEADER}\r\n\r\n".encode(),
    ],
    ids=["handshake", "handshake by aiohttp", "events of Janus", "request"],
)
async def test_client_that_resets_its_connection_at_once_is_not_taken_for_a_trusted_peer(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = TrustedProxies.real_ip

    def real_ip(proxies: TrustedProxies, request: RequestHead) -> Address:
        address = original(proxies, request)
        seen.append(str(address))
        return address

    monkeypatch.setattr(TrustedProxies, "real_ip", real_ip)
    made = config()
    made = structs.replace(made, http=structs.replace(made.http, trusted_proxies=("127.0.0.1",)))
    async with running_gateway(made) as url, asyncio.timeout(WAIT_TIMEOUT):
        with socket.socket() as client:  # blocks the loop, so that the connection is accepted after its reset
            client.bind(("127.0.0.2", 0))
            client.connect(address_of(url))
            client.send(sent)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        later = head(REQUEST_LINE, "X-Real-IP: 192.0.2.7")
        assert (await answer(url, later)).startswith(b"HTTP/1.1 101 ")
        await answer(url, later)  # by now the requests that were read before are handled
    assert set(seen) - {"127.0.0.2"} == {"192.0.2.7"}
