"""Session ids and resume ids: opaque, random, signed; and short ids of rooms for the log.

Source: reference 2.6. Both ids begin with random characters, since clients compare public ids to decide which of two
starts a connection: the ids must not sort by age. Both carry a signature, under different labels, so that a public
session id is never accepted as a resume id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import NewType

SessionId = NewType("SessionId", str)  # public: other clients see it
ResumeId = NewType("ResumeId", str)  # private: resumes the session
RoomSessionId = NewType("RoomSessionId", str)  # Nextcloud's id of a participant's session ("nc-sid")
ConnectionId = NewType("ConnectionId", int)

ENTROPY = 48  # random bytes that ``SessionIds.make`` needs
_RANDOM_BYTES = 24
_SIGNATURE_BYTES = 12
_SHORT_ROOM_ID_BYTES = 4
_id_of_any_server = re.compile(r"[A-Za-z0-9+/_|-]{40,}={0,2}")


def random_part(id: str) -> str:
    """Return the random characters at the beginning of an id, without the signature."""
    return id[: _RANDOM_BYTES * 4 // 3]  # base64


def has_form_of_an_id(text: str) -> bool:
    """Return whether the text could be an id that this or another server made: long, of base64 characters."""
    return _id_of_any_server.fullmatch(text) is not None


class SessionIds:
    """Creates session ids, resume ids and short room ids with one secret, and verifies session ids."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._hmac = hmac.new(self._secret, digestmod=hashlib.sha256)

    def make(self, entropy: bytes) -> tuple[SessionId, ResumeId]:
        """Create a session id and a resume id from ``ENTROPY`` random bytes."""
        public, private = entropy[:_RANDOM_BYTES], entropy[_RANDOM_BYTES:ENTROPY]
        return SessionId(self._sign(b"public", public)), ResumeId(self._sign(b"private", private))

    def is_session_id(self, text: str) -> bool:
        """Return whether the text is the public id of a session or virtual session, signed with this secret."""
        try:
            body = base64.urlsafe_b64decode(text.encode())[:_RANDOM_BYTES]
        except ValueError:  # also UnicodeEncodeError and binascii.Error
            return False
        return len(body) == _RANDOM_BYTES and hmac.compare_digest(self._sign(b"public", body).encode(), text.encode())

    def short_room_id(self, backend: str, room: str) -> str:
        """Return a short id of a room for the log: 8 hexadecimal digits that do not reveal the id of the room.

        The id of a public conversation is enough to join it, and is so short that all ids could be tried if the secret
        were not part of the digest.
        """
        return hmac.digest(self._secret, f"room|{backend}|{room}".encode(), "sha256")[:_SHORT_ROOM_ID_BYTES].hex()

    def _sign(self, label: bytes, body: bytes) -> str:
        digest = self._hmac.copy()  # costs less than to begin with the secret again
        digest.update(b"%b|%b" % (label, body))
        return base64.urlsafe_b64encode(body + digest.digest()[:_SIGNATURE_BYTES]).decode()  # 36 bytes: no padding
