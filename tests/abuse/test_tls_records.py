"""TLS connections whose records do no work: handshakes in single octets, and updates of keys.

Source: RFC 8446, 4.6.3 and 5.1. None of them carries an octet that a limit of the gateway counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from tests.abuse.scene import PATIENCE, Scene, running
from tests.abuse.test_tls_handshakes import FLOODING, HELLO, begin
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.http.tls_keys import APPLICATION_DATA, HANDSHAKE, KEY_UPDATE, TrafficKeys, read_secret
from tests.gateway.edge.raw_client import upgrade

pytestmark = pytest.mark.full

CONNECTIONS = 40  # whose handshakes come in single octets
UPDATING = 2  # connections that update their keys
CLOSED_WITHIN = 10.0  # seconds; the time limit for the head of a request is longer
UPDATES = 8000  # of each, with which the peer has to answer
REQUEST = upgrade()


async def test_handshakes_in_single_octets_delay_no_other_client(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    records = b"".join(HELLO[:3] + (1).to_bytes(2) + HELLO[at : at + 1] for at in range(5, len(HELLO)))
    async with running(tmp_path, certificate=certificate) as scene, scene.undisturbed(memory=64 << 20):
        attackers = [await begin(scene, FLOODING, b"") for _ in range(2 * CONNECTIONS)]
        for _, writer in attackers[:CONNECTIONS]:
            writer.write(records)  # each with one octet of the message
        for at in range(len(HELLO)):
            for _, writer in attackers[CONNECTIONS:]:
                writer.write(HELLO[at : at + 1])
            await asyncio.sleep(0.001)
        async with asyncio.timeout(PATIENCE):
            answers = [await reader.read(1) for reader, _ in attackers]
        assert answers[CONNECTIONS:] == [bytes([HANDSHAKE])] * CONNECTIONS  # whole records, however they came
        for _, writer in attackers:
            writer.transport.abort()
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


@pytest.mark.parametrize("upgraded", [False, True], ids=["before the request", "on a WebSocket"])
async def test_updates_of_keys_end_their_connection_and_delay_no_other_client(tmp_path: Path, upgraded: bool) -> None:
    certificate = make_certificate(tmp_path)
    async with running(tmp_path, certificate=certificate) as scene, scene.undisturbed(memory=64 << 20):
        floods = []
        for number in range(UPDATING):
            keys, reader, writer = await connect(scene, tmp_path / f"keys {number}")
            octets = keys.seal(APPLICATION_DATA, REQUEST) if upgraded else b""
            updates = []
            for _ in range(UPDATES):
                updates.append(keys.seal(HANDSHAKE, KEY_UPDATE))
                keys.update()
            await asyncio.sleep(0)
            floods.append((reader, writer, octets + b"".join(updates)))
        await asyncio.gather(*(send(*flood) for flood in floods))
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Send octets and discard the answers, until the gateway closes the connection."""
    reading = asyncio.create_task(discard(reader))
    with contextlib.suppress(ConnectionError):
        writer.write(octets)
        await writer.drain()
    async with asyncio.timeout(CLOSED_WITHIN):
        await reading
    writer.transport.abort()


async def discard(reader: asyncio.StreamReader) -> None:
    """Read until the connection ends."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65_536):
            pass


async def connect(scene: Scene, key_log: Path) -> tuple[TrafficKeys, asyncio.StreamReader, asyncio.StreamWriter]:
    """Carry out a handshake; return the keys for the client's records, and the TCP connection."""
    context = ssl.create_default_context(cafile=scene.certificate)
    context.keylog_filename = str(key_log)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=scene.address[0])
    reader, writer = await begin(scene, FLOODING, b"")
    done = False
    while not done:
        try:
            tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65_536))
    writer.write(outgoing.read())
    assert tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
    return TrafficKeys(read_secret(key_log)), reader, writer
