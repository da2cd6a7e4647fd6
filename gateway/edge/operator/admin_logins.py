"""The log-ins of the admin page: random tokens in memory, which expire.

Source: docs/operations.md, "The admin page".
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

IDLE_LIFETIME = 1800.0  # seconds without a request
LIFETIME = 43_200.0  # seconds altogether
MAX_LOGINS = 32  # at once; the one that was idle longest goes


@dataclass(slots=True)
class Login:
    """A log-in of a browser; times are of a monotonic clock, in seconds."""

    csrf_token: str  # which requests that change something have to contain
    opened_at: float
    used_at: float


class AdminLogins:
    """Opens and finds log-ins; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logins: dict[bytes, Login] = {}  # by the digest of the token

    def __len__(self) -> int:
        return len(self._logins)

    def open(self) -> tuple[str, Login]:
        """Open a log-in; return the token for the cookie, which is not kept, and the log-in."""
        self._expire()
        while len(self._logins) >= MAX_LOGINS:
            del self._logins[min(self._logins, key=lambda digest: self._logins[digest].used_at)]
        token, now = secrets.token_urlsafe(32), self._clock()
        login = self._logins[_digest(token)] = Login(secrets.token_urlsafe(32), now, now)
        return token, login

    def find(self, token: str) -> Login | None:
        """Return the log-in of a token, and count it as used; ``None``: it has expired, or there is none."""
        self._expire()
        login = self._logins.get(_digest(token))
        if login is not None:
            login.used_at = self._clock()
        return login

    def close(self, token: str) -> None:
        """End the log-in of a token, if there is one."""
        self._logins.pop(_digest(token), None)

    def clear(self) -> None:
        """End all log-ins."""
        self._logins.clear()

    def _expire(self) -> None:
        now = self._clock()
        for digest, login in list(self._logins.items()):
            if now - login.used_at >= IDLE_LIFETIME or now - login.opened_at >= LIFETIME:
                del self._logins[digest]


def _digest(token: str) -> bytes:
    """Return the key of a token; a look-up by digest takes no time that depends on the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
