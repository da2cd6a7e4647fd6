"""A client's next transport whose candidate arrives at the moment in which a pair of another one is nominated."""

from __future__ import annotations

import asyncio
from typing import Any

from aioice import Candidate
from aioice.ice import CandidatePair

from mcu.inprocess import InprocessSettings
from mcu.inprocess.transport.aiortc_internals.ice import IceTransport

WAIT = 60.0  # seconds
UFRAG, PASSWORD = "abcd", "p" * 22


class NextTransport(asyncio.DatagramProtocol):
    """A socket that sets ``checked`` when a connectivity check arrives."""

    def __init__(self) -> None:
        self.checked = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.checked.set()


def candidate(port: int) -> Candidate:
    """Return a host candidate of the client."""
    return Candidate("1", 1, "udp", 1, "127.0.0.1", port, "host")


async def test_next_transport_is_checked_though_another_pair_is_nominated_before_its_check_begins(
    loopback: None,
) -> None:
    loop = asyncio.get_running_loop()
    endpoints = [await loop.create_datagram_endpoint(NextTransport, ("127.0.0.1", 0)) for _ in range(2)]
    (first, _), (second, next_transport) = endpoints
    ice = IceTransport(InprocessSettings(address="127.0.0.1"), lambda data: None, controlling=False)
    await ice.gather_candidates()
    ice.set_remote(UFRAG, PASSWORD, lite=False)
    ice.add(candidate(first.get_extra_info("sockname")[1]))
    (in_use,) = ice._check_list
    in_use.state, in_use.nominated = CandidatePair.State.SUCCEEDED, True
    ice.renew(UFRAG, PASSWORD)
    ice.add(candidate(second.get_extra_info("sockname")[1]))
    ice.check_complete(in_use)
    async with asyncio.timeout(WAIT):
        await next_transport.checked.wait()
    await ice.close()
    for transport, _ in endpoints:
        transport.close()
