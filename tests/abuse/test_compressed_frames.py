"""Compressed frames and bodies: no compression is negotiated, so that nothing is ever decompressed (reference 2.1)."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.edge.clients.polling import SECRET_HEADER
from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest
from gateway.tools.talk_client import Json
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import BINARY, PING, RawClient, masked

pytestmark = pytest.mark.full

ATTACKERS = 5  # of each form
RSV1, RSV2, RSV3 = 4, 2, 1  # reserved bits; RSV1 marks a compressed message (RFC 7692, 6)
OFFER = (
    "permessage-deflate; client_max_window_bits; server_max_window_bits=15, permessage-deflate, x-webkit-deflate-frame"
)
CLOSED = (1002, None)  # with the code for a protocol error; None: the connection broke before it was read
BOMB_SIZE = 256 << 20  # bytes when it is decompressed
BODY_SIZE = 200_000  # bytes; below the limits of all bodies
HTTP_BOMB = gzip.compress(bytes(BOMB_SIZE))  # 256 KiB

Attack = Callable[[Scene], Awaitable[None]]


def deflated(size: int) -> bytes:
    """Return a message of ``size`` zeros as permessage-deflate sends it (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


BOMB = deflated(60 << 20)  # 60 kB: below the limit of a message
FORMS = {
    "bomb": masked(BOMB, reserved=RSV1),
    "binary bomb": masked(BOMB, BINARY, reserved=RSV1),
    "empty": masked(b"", reserved=RSV1),
    "other bits": masked(b"{}", reserved=RSV2 | RSV3),
    "compressed ping": masked(deflated(100), PING, reserved=RSV1),
    "first fragment": masked(BOMB, reserved=RSV1, final=False) + masked(b"", 0),
    "compressed continuation": masked(b"{", final=False) + masked(BOMB, 0, reserved=RSV1),
}


class BombingNextcloud(FakeNextcloud):
    """A Nextcloud that answers hellos of mallory with a decompression bomb."""

    async def _record(self, request: RecordedRequest) -> Json | web.StreamResponse | None:
        if (request.body.get("params") or {}).get("userid") == "mallory":
            return web.Response(body=HTTP_BOMB, content_type="application/json", headers={"Content-Encoding": "gzip"})
        return await super()._record(request)


async def test_nothing_of_a_client_is_decompressed(tmp_path: Path) -> None:
    async with running(tmp_path, cloud=BombingNextcloud()) as scene:
        async with scene.undisturbed(memory=128 << 20), asyncio.timeout(5 * PATIENCE):
            attacks: list[Attack] = [send_compressed_bodies, receive_a_bomb_of_nextcloud]
            for octets in FORMS.values():
                attacks += [partial(offer_compression, octets=octets), partial(compress_in_a_session, octets=octets)]
            await asyncio.gather(*(attack(scene) for attack in attacks for _ in range(ATTACKERS)))
        assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


async def offer_compression(scene: Scene, octets: bytes) -> None:
    """Offer compression, and use it although the gateway does not accept it."""
    async with await RawClient.connect(scene.address, wait_timeout=PATIENCE, Sec_WebSocket_Extensions=OFFER) as client:
        assert "sec-websocket-extensions" not in client.head.lower()
        client.writer.write(octets * 3)
        assert await client.wait_closed() in CLOSED


async def compress_in_a_session(scene: Scene, octets: bytes) -> None:
    """Send compressed frames in a session."""
    async with await scene.attacker("somebody") as client:
        client.writer.write(octets * 3)
        assert await client.wait_closed() in CLOSED


async def send_compressed_bodies(scene: Scene) -> None:
    """Send compressed bodies to the paths that read a body: they are no JSON."""
    signed = {"Spreed-Signaling-Random": "r" * 64, "Spreed-Signaling-Backend": scene.cloud.url}
    async with aiohttp.ClientSession() as http:
        async with http.post(scene.url + "/spreed/poll") as opened:
            secret = (await opened.json())["secret"]
        for path, headers in (
            ("/spreed/poll", {SECRET_HEADER: secret}),
            ("/api/v1/room/r", signed | {"Spreed-Signaling-Checksum": "0" * 64}),
        ):
            headers |= {"Content-Encoding": "gzip", "Content-Type": "application/json"}
            body = HTTP_BOMB[:BODY_SIZE]
            async with http.post(scene.url + path, data=body, headers=headers, compress=False) as answer:
                assert answer.status in (400, 403, 429)


async def receive_a_bomb_of_nextcloud(scene: Scene) -> None:
    """Send a hello that Nextcloud answers with a body that decompresses to a thousand times its size."""
    async with await scene.connect() as client:
        assert (await client.receive())["type"] == "welcome"
        auth = {"url": scene.cloud.url, "params": scene.cloud.ticket("mallory")}
        client.send({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
        assert (await client.receive())["error"]["code"] == "internal_error"
