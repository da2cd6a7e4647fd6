"""The relay of messages from one session to others: the hot path.

Source: reference 5.1-5.4. A message is parsed and encoded once, each recipient is looked up once, and ``data`` is
forwarded byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Raw

from gateway.core.ids import SessionId
from gateway.core.permissions import CONTROL
from gateway.core.relay_budget import ENVELOPE, RelayBudget, cost
from gateway.core.room import Room, RoomKey
from gateway.core.session import Session
from gateway.core.visibility import Content, Form, form_for
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.services import Services
from gateway.flows.traffic import RecipientsBusy, Traffic
from gateway.wire import server
from gateway.wire.client import ClientMessage
from gateway.wire.media import CONTROL as CONTROL_TYPE
from gateway.wire.media import SFU_TYPES, MediaMessage
from gateway.wire.server import MESSAGE_END
from gateway.wire.structure import media_data, media_type, recipient_and_data

NICK_CHANGED = "nickChanged"  # type of the ``data`` that contains a participant's new display name (5.4)
_NICK_CHANGE, _HIDDEN = Content.NICK_CHANGE, Form.HIDDEN
GUARDED_TYPES = SFU_TYPES | {CONTROL_TYPE}  # of ``data`` that makes the recipient's client act (5.3)
RESTRICTED_TYPES = GUARDED_TYPES | {NICK_CHANGED}  # of ``data`` that not every session may receive


class Relay:
    """Relays ``message`` and ``control`` messages; passes media messages to the SFU, if there is one."""

    def __init__(self, services: Services, media: MediaSignaling, traffic: Traffic) -> None:
        self._traffic = traffic
        self._hub = services.hub
        self._delivery = services.delivery
        self._media = media
        self._has_mcu = services.mcu is not None

    def message(self, session: Session, message: ClientMessage) -> None:
        """Relay a message to its recipients, or pass a media message to the SFU.

        Raises:
            ProtocolError: the message, or its ``data`` (5.2), is malformed.
            Postponed: the message has to be handled again later.
        """
        type, recipient, data = recipient_and_data(message.message)
        if type == "session":
            self._to_session(session, recipient, data, message.id)
        elif type == "user":
            if recipient != session.userid:
                decoded = media_data(data)
                targets = self._allowed(session, self._hub.sessions_of_user(session.backend, recipient), decoded)
                self._charge_sessions(session, targets, data)
                encoded = b"".join((session.sender(type), data, MESSAGE_END))
                self._delivery.send_all(targets, encoded, exclude=session)
        else:
            self._to_room(session, type, data)

    def control(self, session: Session, message: ClientMessage) -> None:
        """Relay a control message to the recipients that its sender may control; ignore it otherwise (5.3).

        Raises:
            ProtocolError: the message is malformed.
            Postponed: the message has to be handled again later.
        """
        type, recipient, data = recipient_and_data(message.control)
        if not session.may(CONTROL):
            return
        targets = self._targets(session, type, recipient)
        if type == "session" and not targets:
            self._to_virtual(session, recipient, data, CONTROL_TYPE, control=True)
        allowed = [
            target
            for target in targets
            if target is not session and self._may_act_on(session, target.room, CONTROL_TYPE)
        ]
        room = self._hub.room_of(session)
        if type in ("session", "user") or room is None:
            self._charge_sessions(session, allowed, data)
        else:
            self._charge_room(session, room.relay_budget, data, targets)
        self._delivery.send_all(allowed, b"".join((session.control_sender(type), data, MESSAGE_END)))

    def _targets(self, session: Session, type: str, recipient: str) -> Collection[Session]:
        """Return the sessions of a recipient; the sender may be one of them (5.1)."""
        if type == "session":
            target = self._hub.find(session.backend, recipient)
            return () if target is None else (target,)
        if type == "user":
            return () if recipient == session.userid else self._hub.sessions_of_user(session.backend, recipient)
        room = self._hub.room_of(session)
        if room is None:
            return ()
        return room.members.values() if type == "room" else _members_in_call(room)

    def _to_session(self, session: Session, recipient: str, data: Raw, request_id: str | None) -> None:
        decoded = media_data(data)
        data_type = None
        if decoded is not None:
            data_type = decoded.type
            if self._has_mcu:
                data_type = media_type(decoded)
                if data_type in SFU_TYPES:
                    self._media.handle(session, SessionId(recipient), decoded, request_id or "")
                    return
        if recipient == session.id:
            if self._has_mcu and data_type == "unshareScreen":
                self._media.unshare_screen(session)
            return
        target = self._hub.find(session.backend, recipient)
        if target is None:
            self._to_virtual(session, recipient, data, data_type)
        elif data_type not in RESTRICTED_TYPES or self._may_receive(session, target, data_type):
            budget, size = target.relay_budget, len(data) + ENVELOPE  # as ``_charge_session`` does
            budget.left -= size
            if budget.left < 0.0:
                self._traffic.refill_of(target, session, size)
            self._delivery.send(target, b"".join((session.sender("session"), data, MESSAGE_END)))

    def _to_virtual(
        self, session: Session, recipient: str, data: Raw, data_type: str | None, *, control: bool = False
    ) -> None:
        """Send a message for a virtual session to the internal client that owns it (11.4)."""
        virtual = self._hub.find_virtual(session.backend, recipient)
        if virtual is None or (data_type in GUARDED_TYPES and not self._may_act_on(session, virtual.room, data_type)):
            return
        self._charge_session(session, virtual.owner, data)
        sender = server.Sender("session", session.id, session.shown_userid)
        body = server.MessageBody(sender, data, server.Recipient(virtual.name, type="session"))
        message = server.Control(body) if control else server.Message(body)
        self._delivery.send(virtual.owner, server.encode(message))

    def _to_room(self, session: Session, type: str, data: Raw) -> None:
        room = self._hub.room_of(session)
        if room is None:
            return
        decoded = media_data(data)
        if self._has_mcu and decoded is not None:
            self._media.check(session, decoded)
        targets = room.members.values() if type == "room" else _members_in_call(room)
        self._charge_room(session, room.relay_budget, data, targets)
        encoded = b"".join((session.sender(type), data, MESSAGE_END))
        self._delivery.send_all(self._allowed(session, targets, decoded), encoded, exclude=session)

    def _charge_sessions(self, session: Session, targets: Collection[Session], data: Raw) -> None:
        """Subtract a message's bytes from the budget of each of its recipients, or of none.

        Raises:
            RecipientsBusy: the message has to wait for one of them.
        """
        charged: list[Session] = []
        try:
            for target in targets:
                self._charge_session(session, target, data)
                charged.append(target)
        except RecipientsBusy:
            for target in charged:
                target.relay_budget.left += len(data) + ENVELOPE  # for the next attempt
            raise

    def _charge_session(self, session: Session, target: Session, data: Raw) -> None:
        """Subtract a message's bytes from the budget of its recipient."""
        budget, size = target.relay_budget, len(data) + ENVELOPE
        budget.left -= size
        if budget.left < 0.0:
            self._traffic.refill_of(target, session, size)

    def _charge_room(self, session: Session, budget: RelayBudget, data: Raw, recipients: Collection[Session]) -> None:
        """Subtract a message's bytes from the budget of a room; they count several times in a large one."""
        size = cost(len(data) + ENVELOPE, len(recipients))
        budget.left -= size
        if budget.left < 0.0:
            self._traffic.refill(session, budget, size, recipients)

    # -- permissions

    def _allowed(
        self, session: Session, targets: Collection[Session], decoded: MediaMessage | None
    ) -> Collection[Session]:
        """Return the sessions to which a message may be relayed; the sender may be one of them."""
        data_type = None if decoded is None else decoded.type
        if data_type not in RESTRICTED_TYPES:
            return targets
        return [target for target in targets if self._may_receive(session, target, data_type)]

    def _may_receive(self, sender: Session, recipient: Session, data_type: str | None) -> bool:
        """Return whether a message with ``data`` of this type may be relayed to a recipient."""
        if data_type == NICK_CHANGED:
            return form_for(recipient, _NICK_CHANGE) is not _HIDDEN
        return data_type not in GUARDED_TYPES or self._may_act_on(sender, recipient.room, data_type)

    def _may_act_on(self, sender: Session, room: RoomKey | None, data_type: str | None) -> bool:
        """Return whether a session may make a client in a room act by ``data`` of a guarded type (5.3).

        Internal clients always may. Media messages of others are relayed only if there is no SFU: a client answers an
        offer of any sender, so a relayed offer would bypass the SFU and all permissions.
        """
        if sender.is_internal:
            return True
        if data_type == CONTROL_TYPE:
            return room is not None and room == sender.room and sender.may(CONTROL)
        return not self._has_mcu and room == sender.room


def _members_in_call(room: Room) -> list[Session]:
    members = room.members
    return [members[member] for member in room.in_call]
