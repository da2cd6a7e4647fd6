"""The ``bye`` messages of the server, and its own reasons for them; the reasons of a host are passed on.

Source: reference 2.5.
"""

from __future__ import annotations

from gateway.wire import server

HELLO_TIMEOUT = "hello_timeout"
ROOM_JOIN_TIMEOUT = "room_join_timeout"
SESSION_RESUMED = "session_resumed"
ROOM_SESSION_RECONNECTED = "room_session_reconnected"


def bye(reason: str) -> bytes:
    """Encode a ``bye`` with a reason."""
    return server.encode(server.Bye(server.ByeBody(reason)))
