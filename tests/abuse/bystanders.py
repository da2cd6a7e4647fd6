"""The bystanders of an attack, in a process of their own: a pair and a room of ten that keep exchanging messages.

``python -m tests.abuse.bystanders GATEWAY PID BACKEND [AUTHORITY]`` reads one line of JSON from standard input, the
tickets by user name, prints ``ready`` when all clients are in their rooms, and at the next line, or the end of the
input, one line of JSON with an ``Experience``. ``PID`` is the gateway's process, ``AUTHORITY`` the path of its
certificate.

A delay has three parts. The time for which the machine ran other programs although the gateway was ready to run is
counted by the kernel; the time for which this process did not run when a message arrived is measured by its ``Pulse``.
The rest is the gateway's, however busy machine and gateway are: time that this process waits while the gateway works
excuses nothing. Requests of ``/healthz``, each on a connection of its own, take several steps of this process; all of
its time in between in which it did not run is excused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from gateway.tools.talk_client import Json, TalkClient
from gateway.tools.talk_rooms import nextcloud_session

PAIR = ("anna", "ben")
TEN = tuple(f"member-{number}" for number in range(10))
PERIOD = 0.02  # seconds between two messages of the pair
PULSE = 0.005  # seconds between two beats of the pulse
ROOM_PERIOD = 0.1  # seconds between two messages to the room of ten
LAST_WAIT = 20.0  # seconds that the last messages, and an answer about the health, may take to arrive
HEALTH_PERIOD = 0.1  # seconds between the answer about the health and the next request
HEALTH_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n"


@dataclass
class Experience:
    """The messages of the bystanders: the number sent, the number lost, and the longest delay in seconds."""

    sent: int = 0
    lost: int = 0
    worst: float = 0.0  # the longest delay, that of the machine included
    own: float = 0.0  # the longest delay that the gateway caused
    room_sent: int = 0
    room_lost: int = 0  # over all receivers
    room_own: float = 0.0
    closed: int = 0  # connections that ended
    health_checks: int = 0
    unhealthy: int = 0  # those without an answer of status 200
    health_own: float = 0.0  # the longest time of an answer that the gateway caused


class MachineDelay:
    """Counts the time for which the machine did not run the gateway although it was ready to run."""

    def __init__(self, gateway: int) -> None:
        self._schedstat = os.open(f"/proc/{gateway}/schedstat", os.O_RDONLY)
        self._stat = os.open("/proc/stat", os.O_RDONLY)
        self._tick = 1 / os.sysconf("SC_CLK_TCK")

    def withheld(self) -> float:
        """Return seconds: time on the run queue, and time that the hypervisor gave to other machines."""
        waited = int(os.pread(self._schedstat, 100, 0).split()[1])
        stolen = int(os.pread(self._stat, 200, 0).split(None, 9)[8])
        return waited / 1e9 + stolen * self._tick


class Pulse:
    """Measures for how long this process has handled nothing, because it did not run or was busy."""

    def __init__(self) -> None:
        self._due = time.monotonic()
        self._delay = 0.0  # seconds, of the last beat
        self._sum = 0.0  # of the delays of all beats that are longer than ``PULSE``

    async def beat(self) -> None:
        """Run until cancelled."""
        while True:
            self._delay = time.monotonic() - self._due
            self._sum += self._long(self._delay)
            self._due = time.monotonic() + PULSE
            await asyncio.sleep(PULSE)

    def late(self) -> float:
        """Return how many seconds a message that is handled now may have waited in this process at most."""
        return max(self._delay, time.monotonic() - self._due)

    def missed(self) -> float:
        """Return for how many seconds this process has handled nothing, in all."""
        return self._sum + self._long(time.monotonic() - self._due)

    @staticmethod
    def _long(delay: float) -> float:
        """Return a delay, 0 if a timer of an idle machine may be as late."""
        return delay if delay > PULSE else 0.0


class Receiver:
    """The numbered messages that one client has received, and their longest delay: in all, and by the gateway."""

    def __init__(self, client: TalkClient, machine: MachineDelay, pulse: Pulse) -> None:
        self.numbers: list[int] = []
        self.worst = 0.0
        self.own = 0.0
        self._client = client
        self._machine = machine
        self._pulse = pulse
        client.on_message = self._received

    def _received(self, message: Json) -> None:
        data = message.get("message", {}).get("data")
        if message["type"] == "message" and isinstance(data, dict) and "number" in data:
            self.numbers.append(data["number"])
            delay = time.monotonic() - data["at"]
            self.worst = max(self.worst, delay)
            if delay > self.own:
                withheld = self._machine.withheld() - data["withheld"]
                self.own = max(self.own, delay - withheld - self._pulse.late())
        self._client.messages.clear()

    def lost(self, sent: int) -> int:
        """Count the messages that did not arrive once and in order."""
        return 0 if self.numbers == list(range(sent)) else max(sent - len(set(self.numbers)), 1)


class HealthChecks:
    """Requests of ``/healthz`` to an address: their number, the failed ones, and the longest delay by the gateway."""

    def __init__(
        self, address: tuple[str, int], machine: MachineDelay, pulse: Pulse, tls: ssl.SSLContext | None = None
    ) -> None:
        self.count = 0
        self.failed = 0
        self.own = 0.0
        self._address = address
        self._tls = tls
        self._machine = machine
        self._pulse = pulse

    async def run(self, until: asyncio.Future[None]) -> None:
        """Send one request after the other until the future is done; the last one is completed."""
        while not until.done():
            answered = False
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # TimeoutError is an OSError
                async with asyncio.timeout(LAST_WAIT):
                    answered = await self._check()
            self.count += 1
            self.failed += not answered
            await asyncio.wait([until], timeout=HEALTH_PERIOD)

    async def _check(self) -> bool:
        """Return whether the gateway answers that it is healthy.

        The time begins when the kernel has established the connection: while its queue for the gateway is full it drops
        SYNs, and clients try again after a second.
        """
        connected = socket.socket()
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, self._address)
        begun, withheld, missed = time.monotonic(), self._machine.withheld(), self._pulse.missed()
        host = self._address[0] if self._tls else None
        reader, writer = await asyncio.open_connection(sock=connected, ssl=self._tls, server_hostname=host)
        writer.write(HEALTH_REQUEST)
        status = await reader.readuntil(b"\r\n")
        writer.transport.abort()
        excused = self._machine.withheld() - withheld + self._pulse.missed() - missed
        self.own = max(self.own, time.monotonic() - begun - excused)
        return status.split()[1] == b"200"


async def keep_sending(client: TalkClient, period: float, sent: list[int], machine: MachineDelay) -> None:
    """Send numbered messages to the room, with the time at which each is sent, until cancelled."""
    while True:
        data = {"type": "number", "number": len(sent), "at": time.monotonic(), "withheld": machine.withheld()}
        await client.send({"type": "message", "message": {"recipient": {"type": "room"}, "data": data}})
        sent.append(len(sent))
        await asyncio.sleep(period)


async def watch(
    gateway: str,
    machine: MachineDelay,
    backend: str,
    tickets: Json,
    until: asyncio.Future[None],
    tls: ssl.SSLContext | None,
) -> Experience:
    """Run all clients until the future is done, and return their experience."""
    async with AsyncExitStack() as stack:
        clients = {}
        for name in (*PAIR, *TEN):
            client = clients[name] = await stack.enter_async_context(TalkClient(gateway, backend, tls=tls))
            await client.hello(tickets[name])
            await client.join("pair" if name in PAIR else "ten", nextcloud_session(name))
        pulse = Pulse()
        url = urlsplit(gateway)
        health = HealthChecks((url.hostname or "", url.port or 0), machine, pulse, tls)
        ben = Receiver(clients["ben"], machine, pulse)
        room = [Receiver(clients[name], machine, pulse) for name in TEN[1:]]
        sent: list[int] = []
        room_sent: list[int] = []
        sending = [
            asyncio.create_task(pulse.beat()),
            asyncio.create_task(keep_sending(clients["anna"], PERIOD, sent, machine)),
            asyncio.create_task(keep_sending(clients[TEN[0]], ROOM_PERIOD, room_sent, machine)),
        ]
        checking = asyncio.create_task(health.run(until))
        print("ready", flush=True)  # noqa: T201 - the answer to the parent process
        await asyncio.wait([until, *sending], return_when=asyncio.FIRST_COMPLETED)
        for task in sending[1:]:
            task.cancel()
        await asyncio.wait(sending[1:])
        await checking
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WAIT):
                while ben.lost(len(sent)) or any(receiver.lost(len(room_sent)) for receiver in room):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        sending[0].cancel()
        return Experience(
            sent=len(sent),
            lost=ben.lost(len(sent)),
            worst=ben.worst,
            own=ben.own,
            room_sent=len(room_sent),
            room_lost=sum(receiver.lost(len(room_sent)) for receiver in room),
            room_own=max(receiver.own for receiver in room),
            closed=sum(client.close_code is not None for client in clients.values()),
            health_checks=health.count,
            unhealthy=health.failed,
            health_own=health.own,
        )


async def main(gateway: str, process: str, backend: str, authority: str = "") -> None:
    """Run the bystanders for the parent process, over standard input and output."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tickets = json.loads(await lines.readline())
    until = loop.create_future()

    async def wait_for_line() -> None:
        await lines.readline()
        until.set_result(None)

    waiting = asyncio.create_task(wait_for_line())
    tls = ssl.create_default_context(cafile=authority) if authority else None
    experience = await watch(gateway, MachineDelay(int(process)), backend, tickets, until, tls)
    waiting.cancel()
    print(json.dumps(asdict(experience)), flush=True)  # noqa: T201 - the answer to the parent process


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
