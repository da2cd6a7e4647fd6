"""A client's join of a room of another server, which a later request or the end of the session can withdraw.

Source: reference 12.3-e.
"""

from __future__ import annotations

import asyncio

from gateway.flows.federation.remote_room import RemoteRoom
from gateway.flows.federation.seat import FederatedSeat
from gateway.flows.tasks import Work
from gateway.wire.errors import Code, ProtocolError


class WithdrawableJoin:
    """Implements ``core.seat.JoinElsewhere``: ``step`` runs the steps before the request, ``request`` is the last."""

    def __init__(self) -> None:
        self._withdrawn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._seat: FederatedSeat | None = None  # the seat that sends the request

    def withdraw(self) -> None:
        """See ``JoinElsewhere.withdraw``."""
        if not self._withdrawn.done():
            self._withdrawn.set_result(None)
        if self._seat is not None:
            self._seat.withdraw()

    async def step(self, work: Work) -> None:
        """Run a coroutine; cancel it if the join is withdrawn.

        Raises:
            ProtocolError: the join is withdrawn.
            Exception: the coroutine's own.
        """
        task = asyncio.create_task(work, name="join of a federated room")
        try:
            await asyncio.wait([task, self._withdrawn], return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()  # no effect if it has ended
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        self._check()

    async def request(self, seat: FederatedSeat, room: RemoteRoom, request_id: str) -> None:
        """Send the request over a seat; see ``FederatedSeat.join``.

        Raises:
            ProtocolError: the host's error, or the join is withdrawn.
        """
        self._check()
        self._seat = seat
        await seat.join(room, request_id)

    def _check(self) -> None:
        if self._withdrawn.done():
            raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
