"""What the flows need from outside, as narrow interfaces; the edge implements them, the tests fake them."""

from __future__ import annotations

from typing import Protocol

from gateway.core.limits import Backend
from gateway.wire.backend import BackendAnswer, BackendRequest


class NextcloudError(Exception):
    """A request to Nextcloud failed; the text reaches the client as the message of ``internal_error``."""


class Nextcloud(Protocol):
    """The backends' HTTP side (behaviour reference 3.7, 3.8).

    ``url`` is the base URL that the session named, slash-terminated and without a default port.
    """

    async def ask(self, backend: Backend, url: str, request: BackendRequest) -> BackendAnswer:
        """Send a signed request and return the unwrapped answer; 10 s time limit.

        Raises:
            NextcloudError: no usable answer.
        """

    async def token_key(self, url: str) -> str:
        """Return ``config.signaling["hello-v2-token-key"]``; empty: none, even after a forced refresh."""

    async def session_ping_limit(self, url: str) -> int:
        """Return ``config.signaling["session-ping-limit"]``; 0 when absent."""
