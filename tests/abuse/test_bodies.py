"""Bodies of unauthenticated HTTP requests: bounded in total, and dropped with their request (reference 1.4)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.abuse.scene import PATIENCE, Scene, running

pytestmark = pytest.mark.full

REQUESTS = 600
SIZE = 262_144  # bytes of a body
DURATION = 2.0  # seconds for which bodies stay incomplete
WRONG = "0" * 64
LENGTH = f"Content-Length: {SIZE}"
CHUNKED = "Transfer-Encoding: chunked"

Head = Callable[[Scene], bytes]


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """Return the head of a request."""
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: h", *headers, "", "")).encode(errors="surrogateescape")


def rooms_api(scene: Scene, *headers: str, signature: str = WRONG) -> bytes:
    """Return the head of a request to the rooms API, with a plausible but wrong signature."""
    signed = ("Content-Type: application/json", f"Spreed-Signaling-Random: {'r' * 64}")
    return head(
        "/api/v1/room/r",
        *signed,
        f"Spreed-Signaling-Backend: {scene.cloud.url}",
        f"Spreed-Signaling-Checksum: {signature}",
        *(headers or (LENGTH,)),
    )


PLAUSIBLE: dict[str, Head] = {
    "short": rooms_api,
    "long": lambda scene: rooms_api(scene, f"Content-Length: {4 << 20}"),
}
REFUSED: tuple[Head, ...] = (
    lambda scene: rooms_api(scene, signature=""),
    lambda scene: rooms_api(scene, f"Content-Length: {1 << 40}"),
    lambda scene: rooms_api(scene, CHUNKED),
    lambda _: head("/turn/credentials?service=turn&key=x", LENGTH, method="GET"),
    lambda _: head("/turn/credentials", CHUNKED, method="GET"),
    lambda _: head("/spreed", LENGTH, method="GET"),
    lambda _: head("/spreed/poll", "Spreed-Signaling-Poll: x", LENGTH),
    lambda _: head("/spreed/poll", CHUNKED),
    lambda _: head("/healthz", CHUNKED, method="GET"),
    lambda _: head("/unknown", CHUNKED),
)


@pytest.mark.parametrize("form", PLAUSIBLE)
async def test_incomplete_bodies_with_a_plausible_signature_are_bounded_in_memory(tmp_path: Path, form: str) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=96 << 20):
        octets = PLAUSIBLE[form](scene) + b"\xff" * (SIZE - 1)
        await asyncio.gather(*(post(scene, octets) for _ in range(REQUESTS)))


async def test_bodies_of_refused_requests_are_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=64 << 20):
        bodies = [with_body(form(scene)) for form in REFUSED]
        await asyncio.gather(*(post(scene, bodies[number % len(bodies)]) for number in range(REQUESTS)))


def with_body(octets: bytes) -> bytes:
    """Append a body whose last octet is missing to the head of a request."""
    return octets + (b"%x\r\n" % SIZE if CHUNKED.encode() in octets else b"") + b"\xff" * (SIZE - 1)


async def post(scene: Scene, octets: bytes) -> None:
    """Send an incomplete request, and keep the connection open for a while."""
    reader, writer = await asyncio.open_connection(*scene.address)
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(DURATION):
            writer.write(octets)
            await writer.drain()
            await reader.read(1000)
            await asyncio.sleep(DURATION)
    writer.transport.abort()


async def test_endless_chunks_are_not_read_for_long(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=48 << 20):
        heads = [form(scene) for form in REFUSED]
        endless = [octets for octets in heads if CHUNKED.encode() in octets] * 10
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(stream(scene, octets) for octets in endless))


async def stream(scene: Scene, octets: bytes) -> None:
    """Send a request with chunks of one octet until the gateway closes the connection."""
    _, writer = await asyncio.open_connection(*scene.address)
    with contextlib.suppress(ConnectionError):
        writer.write(octets)
        while True:
            writer.write(b"1\r\nx\r\n" * 10_000)
            await writer.drain()
            await asyncio.sleep(0)
    writer.transport.abort()


async def test_octets_that_are_no_text_leave_no_traceback(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=16 << 20):
        junk = b'{"type":"message","message":{"data":"\xff\xfe"}}'
        assert await scene.cloud.send(scene.url, "r", junk) == (400, "Could not read body\n")
        length = f"Content-Length: {len(junk)}"
        for octets in (
            head("/turn/credentials?service=turn&key=%FF", method="GET"),
            head("/spreed/poll", length) + junk,
            head("/spreed/poll", "Spreed-Signaling-Poll: \udcff", length) + junk,
            head("/api/v1/room/%FF", length) + junk,
            head("/%FF%00", method="GET"),
        ):
            reader, writer = await asyncio.open_connection(*scene.address)
            writer.write(octets)
            async with asyncio.timeout(PATIENCE):
                assert (await reader.readline()).split()[1] in (b"200", b"400", b"403", b"404")
            writer.transport.abort()
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]
