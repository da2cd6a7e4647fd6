"""The load of ``bench.overload``: pairs of clients, one of which sends to the other without waiting for deliveries.

``python -m bench.overload_load PORT BACKEND PAIRS`` prints a line when the sessions are open. Each line that it reads,
``RATE SECONDS``, is a load of all pairs together (messages per second; 0: as much as the gateway accepts). It answers
with one line of JSON, a ``Result``, when all that was sent has arrived. The process ends with an error when a message
is lost, repeated or out of order.
"""

from __future__ import annotations

import dataclasses
import json
import re
import select
import socket
import sys
import time
import uuid
from dataclasses import dataclass

from bench.client import BenchClient

BLOCK = 32  # messages in one write
SEND_BUFFER = 32_768  # bytes of a sender's socket: messages that wait in the kernel count as sent
PATIENCE = 60.0  # seconds without a delivery
_NUMBER = re.compile(rb'"name":"(\d{9})"')
_NUMBER_SIZE = len(b'"name":"000000000"')


@dataclass
class LoadOutcome:
    """The outcome of a load; times are those of the system's monotonic clock, in seconds."""

    offered: int = 0  # messages
    sent: int = 0  # messages that the gateway, or the kernel for it, has accepted
    began: float = 0.0
    stopped: float = 0.0  # when the last octet was accepted
    delivered: int = 0  # messages, until ``stopped``
    drained: float = 0.0  # when the last message was delivered


class Pair:
    """A sender with the messages that it still has to send, and their receiver."""

    def __init__(self, port: int, backend: str, room: str) -> None:
        self._clients = [BenchClient(port) for _ in range(2)]
        for number, client in enumerate(self._clients):
            client.upgrade(port)
            client.hello(backend, f"{room}-{number}")
            client.join(room, f"{room}-{number}")
        self.sender, self.receiver = (client.socket for client in self._clients)
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        for sock in (self.sender, self.receiver):
            sock.setblocking(False)
        session = self._clients[1].session
        recipient = b'"recipient":{"type":"session","sessionid":"%b"}' % session.encode()
        self._start = b'{"type":"message","message":{%b,"data":{"type":"nickChanged","payload":{"name":"' % recipient
        length = len(self._start) + 9 + len(b'"}}}}')
        # a mask of zeros leaves the payload as it is
        self._start = bytes((0x81, 0xFE)) + length.to_bytes(2) + bytes(4) + self._start
        self.due = 0  # messages that are to be sent
        self.sent = self.delivered = 0
        self._block = memoryview(b"")  # the rest of the last block that is not sent yet
        self._tail = b""  # of the received octets

    @property
    def sending(self) -> bool:
        """Whether a block is not sent completely."""
        return bool(self._block)

    def send(self) -> None:
        """Send until the kernel accepts no more."""
        while True:
            if not self._block:
                count = min(self.due, BLOCK)
                if not count:
                    return
                self.due -= count
                numbers = range(self.sent, self.sent + count)
                self._block = memoryview(b"".join([self._start + b'%09d"}}}}' % number for number in numbers]))
                self.sent += count
            try:
                self._block = self._block[self.sender.send(self._block) :]
            except BlockingIOError:
                return

    def receive(self) -> int:
        """Read the received octets, check the numbers of the messages, and return how many messages were completed."""
        received = self._tail + self.receiver.recv(1 << 18)
        numbers = list(map(int, _NUMBER.findall(received)))
        if numbers != list(range(self.delivered, self.delivered + len(numbers))):
            raise SystemExit(f"lost, repeated or out of order: {numbers[:3]} instead of {self.delivered}")
        self.delivered += len(numbers)
        end = received.rfind(b'"name":"')
        self._tail = received[-_NUMBER_SIZE:] if end < 0 else received[max(end + 1, len(received) - _NUMBER_SIZE) :]
        return len(numbers)

    def drop_received(self) -> None:
        """Read and drop the octets that the sender receives."""
        self.sender.recv(1 << 18)


def run(pairs: list[Pair], rate: float, seconds: float) -> LoadOutcome:
    """Offer a load for some seconds, and read until all that was sent has arrived."""
    poll, by_descriptor = select.epoll(), {}
    for pair in pairs:
        for sock, act in ((pair.receiver, pair.receive), (pair.sender, pair.drop_received)):
            poll.register(sock, select.EPOLLIN)
            by_descriptor[sock.fileno()] = act
    result, before = LoadOutcome(began=time.monotonic()), sum(pair.delivered for pair in pairs)
    last = result.began
    while not result.stopped or any(pair.delivered < pair.sent for pair in pairs):
        now = time.monotonic()
        if now < result.began + seconds:
            if rate:
                share = int(rate * (now - result.began) / len(pairs))
                for pair in pairs:
                    pair.due += share - result.offered // len(pairs)
                result.offered = share * len(pairs)
            else:
                for pair in pairs:
                    pair.due = BLOCK
        else:
            for pair in pairs:
                pair.due = 0
            if not result.stopped and not any(pair.sending for pair in pairs):
                result.stopped = now
                result.delivered = sum(pair.delivered for pair in pairs) - before
        for pair in pairs:
            pair.send()
        for descriptor, _ in poll.poll(0.001):
            if by_descriptor[descriptor]():
                last = now
        if now > last + PATIENCE:
            raise SystemExit("messages are lost")
    result.drained = time.monotonic()
    result.sent = sum(pair.delivered for pair in pairs) - before
    poll.close()
    return result


def main() -> None:
    """Open the sessions, and run a load for each line of the standard input."""
    run_id = uuid.uuid4().hex[:8]
    pairs = [Pair(int(sys.argv[1]), sys.argv[2], f"{run_id}-{number}") for number in range(int(sys.argv[3]))]
    print("ready", flush=True)  # noqa: T201 - read by bench.overload
    for line in sys.stdin:
        rate, seconds = map(float, line.split())
        print(json.dumps(dataclasses.asdict(run(pairs, rate, seconds))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
