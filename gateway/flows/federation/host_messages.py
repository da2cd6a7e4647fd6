"""Delivery of the host's messages to a client, after their remote ids were replaced by local ids.

Source: reference 2.8, 5.5, 12.2.
"""

from __future__ import annotations

from collections import deque

from gateway.core.session import Session
from gateway.core.visibility import Form
from gateway.flows.federation.listed_participants import ListedParticipants
from gateway.flows.federation.remote_session import SharedBytes
from gateway.flows.rooms.chat import RoomMessage
from gateway.flows.services import Services
from gateway.wire import remote_messages
from gateway.wire.remote_messages import RemoteError, RemoteEvent, RemoteMessage
from gateway.wire.server import RoomDataBody

MAX_REQUESTS = 500  # latest requests of the client that the host may answer with an error
ID_LENGTH = 64  # characters of a request id that are compared


class HostMessages:
    """Appends messages of the host to the outbox of one session; ``list_bytes`` counts the memory of all kept lists."""

    def __init__(self, services: Services, session: Session, list_bytes: SharedBytes) -> None:
        self._delivery = services.delivery
        self._session = session
        self._participants = ListedParticipants(list_bytes)
        self._requests: deque[str] = deque(maxlen=MAX_REQUESTS)  # ids of the latest requests, cut to ``ID_LENGTH``

    def expect_answer(self, id: str | None) -> None:
        """Remember the id of a request that is sent to the host, which may answer it with an error."""
        if id:
            self._requests.append(id[:ID_LENGTH])

    def pass_on(self, message: RemoteMessage) -> None:
        """Send the client a message of the host, in which the ids are local.

        An error for a request that was not sent to the host is dropped: the client gets this server's own answer.
        """
        if isinstance(message, RemoteError) and message.id and message.id[:ID_LENGTH] not in self._requests:
            return
        if isinstance(message, RemoteEvent):
            self._participants.note(message.event)
        if isinstance(message, RemoteEvent) and message.event.message is not None:
            self._send_room_message(message.event.message)
        else:
            self._delivery.send(self._session, remote_messages.encode(message))

    def list_participants(self, room: str) -> None:
        """Send the last known list of participants, if any, without the sessions that have left since (2.8)."""
        if (message := self._participants.message(room)) is not None:
            self._delivery.send(self._session, message)

    def forget(self) -> None:
        """Drop the list of participants, when the client is in another room or in none. Idempotent."""
        self._participants.forget()

    def _send_room_message(self, message: RoomDataBody) -> None:
        """Send a message of the host's Nextcloud, mostly a chat message, in the form of a local room (5.5)."""
        for event in RoomMessage(message.roomid, message.data).events(Form.FULL):
            if event.repeatable:
                self._delivery.send_repeatable((self._session,), event.message, event.offline)
            else:
                self._delivery.send(self._session, event.message, event.offline)
