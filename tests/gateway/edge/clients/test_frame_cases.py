"""Each rule of the WebSocket protocol about frames, on a ``portunus serve`` over sockets.

The sections are those of the Autobahn test suite (docs/testing.md, "The WebSocket protocol"). Each case has a
connection with a session; the frames that the client receives, and the end of the connection, are compared with the
events of the case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.gateway.edge.clients.frame_cases import endings, frames, texts
from tests.gateway.edge.clients.frame_cases.events import Case, Event, answer, event, text
from tests.gateway.edge.raw_client import CLOSE, PING, RawClient, masked
from tests.gateway.served import served_gateway

AT_ONCE = 16  # connections
LAST = "the last message"  # id of the message whose answer ends a case

SECTIONS: dict[str, Mapping[str, Case]] = {
    "1 framing": frames.FRAMING,
    "2 pings and pongs": frames.PINGS,
    "3 reserved bits": frames.RESERVED_BITS,
    "4 opcodes": frames.OPCODES,
    "5 fragmentation": frames.FRAGMENTATION,
    "6 text": texts.VALID,
    "6 text, fail fast": texts.FAIL_FAST,
    "6 characters": texts.CHARACTERS_ALONE,
    "6 no UTF-8": texts.INVALID,
    "7 close": endings.CLOSING,
    "9, 10 limits": endings.LIMITS,
    "12, 13 compression": endings.EXTENSIONS,
}


class Cases:
    """Plays cases with a gateway, a few at once, and collects the cases whose events differ."""

    def __init__(self, url: str, cloud: FakeNextcloud) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._cloud = cloud
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.differing: dict[str, tuple[tuple[Event, ...], tuple[Event, ...]]] = {}

    async def play(self, name: str, case: Case) -> None:
        """Play a case on a connection of its own."""
        async with self._slots:
            offer: dict[str, Any] = {} if case.extensions is None else {"Sec_WebSocket_Extensions": case.extensions}
            async with await RawClient.connect(self._address, **offer) as client:
                assert "sec-websocket-extensions" not in client.head.lower()
                await self._open_session(client)
                received = await _events(client, case)
        if received != case.events:
            self.differing[name] = case.events, received

    async def _open_session(self, client: RawClient) -> None:
        assert (await client.receive())["type"] == "welcome"
        auth = {"url": self._cloud.url, "params": self._cloud.ticket("")}
        client.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        assert (await client.receive())["type"] == "hello"


async def _events(client: RawClient, case: Case) -> tuple[Event, ...]:
    """Play the writes of a case; return the events until the connection ends or ``LAST`` is answered."""
    ends = bool(case.events) and case.events[-1][0] == "close"
    received: list[Event] = []
    reading = asyncio.create_task(_read(client, received))
    try:
        for octets in (*case.writes, *(() if ends else (masked(text(LAST)),))):
            if received and received[-1][0] == "close":
                break
            client.writer.write(octets)
            await client.writer.drain()
            await asyncio.sleep(0)  # so that the octets are sent before the next ones
        await reading
    except ConnectionError:  # the gateway has closed the connection before it received everything
        await reading
    finally:
        reading.cancel()
    return tuple(received)


async def _read(client: RawClient, received: list[Event]) -> None:
    while True:
        try:
            opcode, payload = await client.frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        if opcode == PING:
            continue
        seen = event(opcode, payload)
        if seen == answer(LAST):
            return
        received.append(seen)
        if opcode == CLOSE:
            client.writer.write(masked(payload, CLOSE))


# reference 2.1-p, 2.1-q
async def test_frames_are_answered_or_refused_as_in_rfc_6455(tmp_path: Path) -> None:
    async with FakeNextcloud() as cloud, served_gateway(tmp_path, cloud) as url:
        cases = Cases(url, cloud)
        await asyncio.gather(
            *(
                cases.play(f"{section}: {name}", case)
                for section in SECTIONS
                for name, case in SECTIONS[section].items()
            )
        )
        assert cases.differing == {}
