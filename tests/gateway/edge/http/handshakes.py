"""Octets of WebSocket handshakes, and all octets with which a gateway answers them."""

from __future__ import annotations

import asyncio
import re

from tests.gateway.edge.raw_client import WAIT_TIMEOUT, upgrade
from tests.gateway.edge.serving import address_of

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
REQUEST_LINE = "GET /spreed HTTP/1.1"


def head(request_line: str = REQUEST_LINE, *more: str, omit: str = "", **headers: str) -> bytes:
    """Return a handshake with its request line, further header lines, and headers replaced or omitted."""
    lines = upgrade(Sec_WebSocket_Key=KEY, **headers).decode().split("\r\n")[1:-2]
    kept = [line for line in lines if not omit or not line.startswith(omit)]
    return "\r\n".join((request_line, *kept, *more, "", "")).encode()


async def answer(url: str, sent: bytes) -> bytes:
    """Send octets; return all octets of the server, normalised.

    The client half-closes the connection when the first answer is complete.
    """
    async with asyncio.timeout(WAIT_TIMEOUT):
        reader, writer = await asyncio.open_connection(*address_of(url))
        writer.write(sent)
        received = b""
        while octets := await reader.read(65_536):
            received += octets
            if is_complete(received, has_body=not sent.startswith(b"HEAD")) and writer.can_write_eof():
                writer.write_eof()
        writer.close()
    return normalised(received)


def normalised(received: bytes) -> bytes:
    """Replace the date of an answer, and the ping that contains the time, by fixed texts."""
    received = re.sub(rb"Date: [^\r]*", b"Date: now", received)
    return re.sub(rb"\x89\x13\d{19}", b"ping", received)


def is_complete(received: bytes, *, has_body: bool) -> bool:
    """Return whether octets contain an answer with its body, or an upgrade and the welcome."""
    first, end, rest = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", first)
    has_length = length is not None and len(rest) >= (int(length[1]) if has_body else 0)
    return bool(end) and (b'"welcome"]' in rest or has_length)
