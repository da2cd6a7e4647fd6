"""Hostile or broken Nextclouds, many at once: the users of another one do not notice (docs/threat-model.md, "Trust").

Source: reference 3.7. Each sort of answer comes from a Nextcloud of its own, which many clients name in their hellos.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.tools.talk_client import TalkClient
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import RawClient

pytestmark = pytest.mark.full

TIMEOUT = 2.0  # seconds for a request to a Nextcloud
HELLOS = 20  # clients of each hostile Nextcloud, more than get a connection at once
LENGTH = 65_536  # octets that are sent at once
TRICKLE = 0.005  # seconds between two single octets
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
BOMB = gzip.compress(bytes(64 << 20))

# The octets with which an answer begins, those that follow without end, and whether they come one by one.
ANSWERS: dict[str, tuple[bytes, bytes, bool]] = {
    "never answers": (b"", b"", False),
    "closes": (b"\r\n", b"", False),
    "trickles a head": (HEAD, b"X-A: b\r\n", True),
    "trickles a body": (HEAD + b"Content-Length: 1000000\r\n\r\n", b" ", True),
    "endless head": (HEAD, b"X-A: b\r\n" * 1000, False),
    "endless line": (HEAD + b"X-A: ", b"b" * LENGTH, False),
    "interim answers": (b"", INTERIM * 1000, False),
    "trickles interim answers": (b"", INTERIM, True),
    "huge body": (HEAD + b"Content-Length: 1000000000\r\n\r\n", b"[" * LENGTH, False),
    "body without a length": (HEAD + b"Connection: close\r\n\r\n", b"[" * LENGTH, False),
    "short chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n" * 10_000, False),
    "long chunk sizes": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * LENGTH, False),
    "deep JSON": (HEAD + b"Content-Length: 900000\r\n\r\n" + b"[" * 900_000, b"", False),
    "bomb": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(BOMB), BOMB), b"", False),
    "more answers": (HEAD + b"Content-Length: 2\r\n\r\n{}", (HEAD + b"Content-Length: 2\r\n\r\n{}") * 500, False),
    "no HTTP": (b"", bytes(range(256)) * 256, False),
}


async def test_hostile_backends_delay_no_user_of_another_one(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(serving(answer)) for answer in ANSWERS]
        backends = "".join(
            f'[[backend]]\nid = "hostile-{port}"\nurls = ["http://127.0.0.1:{port}/"]\nsecret = "{"s" * 32}"\n'
            for port in ports
        )
        configuration = f"[nextcloud]\ntimeout = {TIMEOUT}\n{backends}"
        async with running(tmp_path, configuration) as scene, scene.undisturbed(memory=96 << 20):
            clients = []
            for number in range(HELLOS * len(ports)):
                clients.append(await scene.connect())
                send_hello(clients[-1], ports[number % len(ports)])
            refusals = [asyncio.create_task(wait_for_refusal(client)) for client in clients]
            joins = 0
            while not all(task.done() for task in refusals):
                async with TalkClient(scene.url, scene.cloud.url) as user:
                    await user.hello(scene.cloud.ticket(f"user {joins}"))  # a session stays a while
                    await user.join("den")
                    joins += 1
            await asyncio.gather(*refusals)
            assert joins > 2
            for client in clients:
                client.writer.transport.abort()
        check_log(scene)


def check_log(scene: Scene) -> None:
    """Check that each backend is named in a few lines, and that nothing failed in the gateway itself."""
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]
    assert len([line for line in scene.lines if "level=warning" in line]) < 5 * len(ANSWERS)


def send_hello(client: RawClient, port: int) -> None:
    """Send a hello that names a hostile Nextcloud."""
    auth = {"url": f"http://127.0.0.1:{port}/", "params": {"ticket": "t"}}
    client.send({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})


async def wait_for_refusal(client: RawClient) -> None:
    """Wait for the error that answers a hello."""
    async with asyncio.timeout(PATIENCE):
        while (message := await client.receive())["type"] == "welcome":
            pass
    assert message["type"] == "error", message


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[int]:
    """Answer each request in a hostile manner; yields the port."""
    beginning, forever, one_by_one = ANSWERS[name]
    writers: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(beginning)
            while forever and not writer.is_closing():
                for piece in (bytes([octet]) for octet in forever) if one_by_one else (forever,):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(TRICKLE if one_by_one else 0)
            if beginning:
                await writer.drain()
                writer.close()
            else:
                await reader.read()
        writers.discard(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
