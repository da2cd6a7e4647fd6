"""Messages from one session to others: the hot path.

Source: behaviour reference 5.1, 5.2, 5.4. One parse, one look-up per recipient, one encode per message; ``data`` goes
out as it came in, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw

from gateway.core.session import Session
from gateway.flows.media import Media
from gateway.flows.services import Services
from gateway.flows.validation import check
from gateway.wire import media, server
from gateway.wire.client import ClientMessage, given
from gateway.wire.errors import Code, Error

_CONSUMED = media.CONSUMED


class Relay:
    """Carries out ``message`` requests."""

    def __init__(self, services: Services, to_sfu: Media) -> None:
        self._hub = services.hub
        self._delivery = services.delivery
        self._media = to_sfu
        self._has_mcu = services.has_mcu

    def message(self, session: Session, message: ClientMessage) -> Error | None:
        """Deliver a message, or hand it to the SFU layer; returns what is wrong with it."""
        body = message.message
        if body is None or body.recipient is None or not given(body.data):
            return Code.INVALID_FORMAT.error()
        recipient, data = body.recipient, body.data
        match recipient.type:
            case "session" if recipient.sessionid:
                return self._to_session(session, message, recipient.sessionid)
            case "user" if recipient.userid:
                if recipient.userid != session.userid:
                    targets = self._hub.of_user(session.backend, recipient.userid)
                    self._send(session, "user", targets, data, media.decode_head(data))
            case "room" | "call" as kind:
                return self._to_room(session, kind, data)
            case _:
                return Code.INVALID_FORMAT.error()
        return None

    def _to_session(self, session: Session, message: ClientMessage, recipient: str) -> Error | None:
        data = message.message.data  # type: ignore[union-attr]  # checked by the caller
        head = media.decode_head(data)
        if self._has_mcu and head is not None:
            error = check(head)
            if error is not None:
                return error
            if head.type in _CONSUMED:
                self._media.handle(session, recipient, head, message.id or "")  # type: ignore[arg-type]
                return None
        if recipient == session.id:
            if self._has_mcu and head is not None and head.type == "unshareScreen":
                self._media.unshare_screen(session)
            return None
        target = self._hub.find(session.backend, recipient)
        if target is not None:
            self._send(session, "session", (target,), data, head)
        return None

    def _to_room(self, session: Session, kind: str, data: Raw) -> Error | None:
        room = self._hub.room_of(session)
        if room is None:
            return None
        head = media.decode_head(data)
        if self._has_mcu and head is not None:
            error = check(head)
            if error is not None:
                return error
        members = room.members
        if kind == "room":
            self._send(session, kind, members.values(), data, head)
        else:
            self._send(session, kind, [members[member] for member in room.in_call], data, head)
        return None

    def _send(
        self, session: Session, kind: str, targets: Iterable[Session], data: Raw, head: media.Head | None
    ) -> None:
        encoded = server.encode(server.Message(server.MessageBody(session.sender(kind), data)))
        if head is not None and head.type == "nickChanged":
            targets = [target for target in targets if not target.permissions.hides_names]
        self._delivery.send_all(targets, encoded, but=session)
