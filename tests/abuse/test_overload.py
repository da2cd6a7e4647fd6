"""More messages than the gateway can carry: each is delivered once and in order, or its receiver's session ends.

Source: docs/performance.md, "Overload"; invariants 3 and 6. All senders send everything at once, so that the gateway is
busy until the end and reads only as much as it handles. The limits on rates are switched off.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import CLOSE, TEXT, RawClient, masked

pytestmark = pytest.mark.full

SENDERS = 4
READERS = 2
COUNT = 600  # messages of each sender to each recipient
PADDING = "x" * 12_000  # in the messages to the client that does not read: more than kernel and outbox hold
CONFIGURATION = """
[limits]
messages_per_second = 0
bytes_per_second = 0
relayed_bytes_per_second = 0
"""
END = {"id": "end", "type": "message"}  # has no body, so it is answered with an error after all messages before it


class RecordingMember:
    """A client in the room; ``received`` has, by sender, the messages in the order of their arrival."""

    def __init__(self, name: str, client: RawClient) -> None:
        self.name = name
        self.client = client
        self.received: dict[str, list[list[object]]] = defaultdict(list)
        self.count = 0  # of these messages
        self.answered = False  # ``END`` was answered
        self.closed = False  # the gateway has ended the connection

    async def read(self, count: int, *, until_answer: bool = False) -> None:
        """Read until ``count`` messages have arrived, and the answer to ``END``, or the connection has ended."""
        while not self.closed and (self.count < count or (until_answer and not self.answered)):
            try:
                opcode, payload = await self.client.frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                opcode, payload = CLOSE, b""
            if opcode == TEXT:
                self._record(json.loads(payload))
            self.closed = opcode == CLOSE

    def _record(self, message: dict[str, object]) -> None:
        if message["type"] == "message":
            sender, *entry, _ = message["message"]["data"]  # type: ignore[index]
            self.received[sender].append(entry)
            self.count += 1
        elif message.get("id") == END["id"]:
            self.answered = True


async def test_messages_are_delivered_once_and_in_order_or_the_receivers_session_ends(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIGURATION) as scene:
        senders = [await member(scene, f"sender {number}") for number in range(SENDERS)]
        readers = [await member(scene, f"reader {number}") for number in range(READERS)]
        late = await member(scene, "late", receive_buffer=65536)
        async with asyncio.timeout(2 * PATIENCE):
            await asyncio.gather(
                *(send(sender, readers[0], late) for sender in senders),
                *(sender.read((SENDERS - 1) * COUNT, until_answer=True) for sender in senders),
                readers[0].read(2 * SENDERS * COUNT),
                *(reader.read(SENDERS * COUNT) for reader in readers[1:]),
                scene.healthy(),
            )
            await late.read(2 * SENDERS * COUNT)
        assert late.closed
        members = [*senders, *readers, late]
        for recipient in members:
            for sender in senders:
                expected = [
                    entry
                    for number in range(COUNT)
                    for entry in ([recipient.name, number], ["room", number])
                    if recipient is not sender and (entry[0] == "room" or recipient in (readers[0], late))
                ]
                found = recipient.received[sender.name]
                assert found == (expected[: len(found)] if recipient.closed else expected), (
                    recipient.name,
                    sender.name,
                )
        assert await scene.limits_met("outbox_bytes") == sum(recipient.closed for recipient in members)
        for recipient in members:
            recipient.client.writer.transport.abort()


async def member(scene: Scene, name: str, receive_buffer: int = 0) -> RecordingMember:
    """Open a session in the room."""
    return RecordingMember(name, await scene.attacker(name, room="crowded", receive_buffer=receive_buffer))


async def send(sender: RecordingMember, reader: RecordingMember, late: RecordingMember) -> None:
    """Send numbered messages to a reader, to the client that does not read, and to the room, and ``END``."""
    frames = []
    for number in range(COUNT):
        for recipient, text in ((reader, ""), (late, PADDING)):
            to = {"type": "session", "sessionid": recipient.client.session_id}
            frames.append(relayed(to, [sender.name, recipient.name, number, text]))
        frames.append(relayed({"type": "room"}, [sender.name, "room", number, ""]))
    writer = sender.client.writer
    writer.write(b"".join(frames) + masked(json.dumps(END)))
    await writer.drain()


def relayed(recipient: dict[str, str], data: list[object]) -> bytes:
    """Return the frame of a message."""
    return masked(json.dumps({"type": "message", "message": {"recipient": recipient, "data": data}}))
