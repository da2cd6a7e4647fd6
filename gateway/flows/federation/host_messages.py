"""Delivers the host's messages to a client, after the ids in them were replaced by local ones.

Source: reference 2.8, 5.5, 12.2.
"""

from __future__ import annotations

from collections import deque

from gateway.core.session import Session
from gateway.core.visibility import Form
from gateway.flows.federation.listed_participants import ListedParticipants
from gateway.flows.federation.remote_session import KeptBytes
from gateway.flows.rooms.chat import RoomMessage
from gateway.flows.services import Services
from gateway.wire import remote_messages
from gateway.wire.remote_messages import RemoteError, RemoteEvent, RemoteMessage
from gateway.wire.server import RoomDataBody

REQUESTS = 500  # latest requests of the client that the host may answer with an error
ID_LENGTH = 64  # characters of their ids that count


class HostMessages:
    """Appends messages of the host to the outbox of one session; ``lists`` counts the memory of all kept lists."""

    def __init__(self, services: Services, session: Session, lists: KeptBytes) -> None:
        self._delivery = services.delivery
        self._session = session
        self._participants = ListedParticipants(lists)
        self._requests: deque[str] = deque(maxlen=REQUESTS)  # ids

    def expect_answer(self, id: str | None) -> None:
        """Note the id of a request that goes to the host."""
        if id:
            self._requests.append(id[:ID_LENGTH])

    def pass_on(self, local: RemoteMessage) -> None:
        """Send the client a message whose session ids are those of the local server.

        An error is dropped if it answers a request that the host has not got: this server answers that one.
        """
        if isinstance(local, RemoteError) and local.id and local.id[:ID_LENGTH] not in self._requests:
            return
        if isinstance(local, RemoteEvent):
            self._participants.note(local.event)
        if isinstance(local, RemoteEvent) and local.event.message is not None:
            self._send_room_message(local.event.message)
        else:
            self._delivery.send(self._session, remote_messages.encode(local))

    def list_participants(self, room: str) -> None:
        """Send the last list of participants again, less the sessions that have left, if one is known (2.8)."""
        if (message := self._participants.message(room)) is not None:
            self._delivery.send(self._session, message)

    def forget(self) -> None:
        """Drop the list of participants: the client is in another room, or in none. Idempotent."""
        self._participants.forget()

    def _send_room_message(self, message: RoomDataBody) -> None:
        """Send a message of the host's Nextcloud, mostly a chat message, in the form of a local room (5.5)."""
        for event in RoomMessage(message.roomid, message.data).events(Form.FULL):
            if event.repeatable:
                self._delivery.send_repeatable((self._session,), event.message, event.offline)
            else:
                self._delivery.send(self._session, event.message, event.offline)
