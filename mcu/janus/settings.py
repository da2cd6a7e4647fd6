"""The keys of one ``[[mcu.janus]]`` (docs/janus.md, "Configuration")."""

from __future__ import annotations

import msgspec


class JanusServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Janus: where it is and what it asks for."""

    url: str  # of its WebSocket API, "ws://…" or "wss://…"
    api_secret: str = ""
    token: str = ""  # an alternative to ``api_secret``
    admin_key: str = ""  # VideoRoom's, asked for when a room is created

    def __post_init__(self) -> None:
        if not self.url.startswith(("ws://", "wss://")):
            raise ValueError("`url` must begin with ws:// or wss://")

    @property
    def secrets(self) -> dict[str, str]:
        """What goes into every request."""
        given = {"apisecret": self.api_secret, "token": self.token}
        return {name: value for name, value in given.items() if value}
