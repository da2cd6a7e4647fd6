"""Messages from one session to others: the hot path.

Source: reference 5.1-5.4. One parse, one look-up per recipient, one encode per message; ``data`` goes
out as it came in, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw

from gateway.core.ids import SessionId
from gateway.core.permissions import CONTROL
from gateway.core.session import Session
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.media.validation import check
from gateway.flows.services import Services
from gateway.wire import media, server
from gateway.wire.client import ClientMessage, Recipient, given
from gateway.wire.errors import Code, Error, ProtocolError

_CONSUMED = media.CONSUMED
_ROOM_TYPES = media.ROOM_TYPES


class Relay:
    """Carries out ``message`` and ``control`` requests."""

    def __init__(self, services: Services, to_sfu: MediaSignaling) -> None:
        self._hub = services.hub
        self._delivery = services.delivery
        self._media = to_sfu
        self._has_mcu = services.mcu is not None

    def message(self, session: Session, message: ClientMessage) -> Error | None:
        """Deliver a message, or hand it to the SFU layer; returns what is wrong with it."""
        body = message.message
        if body is None or body.recipient is None or not given(body.data):
            return Code.INVALID_FORMAT.error()
        recipient, data = body.recipient, body.data
        kind = recipient.type
        if kind == "session" and recipient.sessionid:
            return self._to_session(session, recipient.sessionid, data, message.id)
        if kind == "room" or kind == "call":
            return self._to_room(session, kind, data)
        if kind == "user" and recipient.userid:
            if recipient.userid != session.userid:
                targets = self._hub.of_user(session.backend, recipient.userid)
                self._send(session, kind, targets, data, media.decode_head(data))
            return None
        return Code.INVALID_FORMAT.error()

    def control(self, session: Session, message: ClientMessage) -> Error | None:
        """Deliver a control message of who may send one; silently nothing of the others (5.3)."""
        body = message.control
        if body is None or body.recipient is None or not given(body.data):
            return Code.INVALID_FORMAT.error()
        targets = self._targets(session, body.recipient)
        if targets is None:
            return Code.INVALID_FORMAT.error()
        if session.may(CONTROL):
            if body.recipient.type == "session" and not targets:
                self._to_virtual(session, body.recipient.sessionid or "", body.data, control=True)
            encoded = b"".join((session.control_sender(body.recipient.type or ""), body.data, server.MESSAGE_END))
            self._delivery.send_all(targets, encoded, but=session)
        return None

    def _targets(self, session: Session, recipient: Recipient) -> Iterable[Session] | None:
        """Return whom a recipient names, the sender perhaps among them; ``None``: it is none (5.1)."""
        kind = recipient.type
        if kind == "session" and recipient.sessionid:
            target = self._hub.find(session.backend, recipient.sessionid)
            return () if target is None else (target,)
        if kind == "user" and recipient.userid:
            if recipient.userid == session.userid:
                return ()
            return self._hub.of_user(session.backend, recipient.userid)
        if kind != "room" and kind != "call":
            return None
        room = self._hub.room_of(session)
        if room is None:
            return ()
        return room.members.values() if kind == "room" else [room.members[member] for member in room.in_call]

    def _to_session(self, session: Session, recipient: str, data: Raw, request: str | None) -> Error | None:
        head = media.decode_head(data)
        if self._has_mcu and head is not None:
            kind = head.type
            if not kind or (head.roomType and head.roomType not in _ROOM_TYPES):
                return Code.INVALID_FORMAT.error()
            if kind in _CONSUMED:
                try:
                    check(head)
                    self._media.handle(session, SessionId(recipient), head, request or "")
                except ProtocolError as error:
                    return error.error
                return None
        if recipient == session.id:
            if self._has_mcu and head is not None and head.type == "unshareScreen":
                self._media.unshare_screen(session)
            return None
        target = self._hub.find(session.backend, recipient)
        if target is None:
            self._to_virtual(session, recipient, data)
            return None
        if head is not None and head.type == "nickChanged" and target.permissions.hides_names:
            return None
        self._delivery.send(target, b"".join((session.sender("session"), data, server.MESSAGE_END)))
        return None

    def _to_virtual(self, session: Session, recipient: str, data: Raw, *, control: bool = False) -> None:
        """Tell the owner of a virtual session what is said to it (11.4); nobody, when there is none."""
        virtual = self._hub.find_virtual(session.backend, recipient)
        if virtual is None:
            return
        sender = server.Sender("session", session.id, session.shown_userid)
        body = server.MessageBody(sender, data, server.Recipient(virtual.name, type="session"))
        message = server.Control(body) if control else server.Message(body)
        self._delivery.send(virtual.owner, server.encode(message))

    def _to_room(self, session: Session, kind: str, data: Raw) -> Error | None:
        room = self._hub.room_of(session)
        if room is None:
            return None
        head = media.decode_head(data)
        if self._has_mcu and head is not None:
            try:
                check(head)
            except ProtocolError as error:
                return error.error
        members = room.members
        if kind == "room":
            self._send(session, kind, members.values(), data, head)
        else:
            self._send(session, kind, [members[member] for member in room.in_call], data, head)
        return None

    def _send(
        self, session: Session, kind: str, targets: Iterable[Session], data: Raw, head: media.Head | None
    ) -> None:
        encoded = b"".join((session.sender(kind), data, server.MESSAGE_END))
        if head is not None and head.type == "nickChanged":
            targets = [target for target in targets if not target.permissions.hides_names]
        self._delivery.send_all(targets, encoded, but=session)
