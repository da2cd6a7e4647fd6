"""Session ids: opaque, unguessable, and authentic.

Source: reference 2.6. Both ids begin with random characters (clients compare public ids to decide who
starts a connection, so they must not sort by age), and carry a signature under different labels, so that the public
id of a session is no resume id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NewType

SessionId = NewType("SessionId", str)  # public: names the session to everybody
ResumeId = NewType("ResumeId", str)  # private: whoever has it takes the session over
RoomSessionId = NewType("RoomSessionId", str)  # Nextcloud's id of a participant's session ("nc-sid")
ConnectionId = NewType("ConnectionId", int)

ENTROPY = 48  # bytes that ``SessionIds.make`` needs
_RANDOM = 24
_SIGNATURE = 12


class SessionIds:
    """Makes and checks session ids under one secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def make(self, entropy: bytes) -> tuple[SessionId, ResumeId]:
        """Make a pair of ids from ``ENTROPY`` random bytes."""
        public, private = entropy[:_RANDOM], entropy[_RANDOM:ENTROPY]
        return SessionId(self._sign(b"public", public)), ResumeId(self._sign(b"private", private))

    def is_resume_id(self, text: str) -> bool:
        """Whether this server, or one with the same secret, made this resume id; says nothing of the session."""
        try:
            body = base64.urlsafe_b64decode(text.encode())[:_RANDOM]
        except ValueError:  # also UnicodeEncodeError and binascii.Error
            return False
        return len(body) == _RANDOM and hmac.compare_digest(self._sign(b"private", body).encode(), text.encode())

    def _sign(self, label: bytes, body: bytes) -> str:
        signature = hmac.new(self._secret, label + b"|" + body, hashlib.sha256).digest()[:_SIGNATURE]
        return base64.urlsafe_b64encode(body + signature).decode()  # 36 bytes: no padding
