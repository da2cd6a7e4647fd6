"""The keys of one ``[[mcu.janus]]`` (docs/janus.md, "Configuration")."""

from __future__ import annotations

import secrets

import msgspec

from mcu.janus.labels import INSTANCE

SCHEMES = ("ws://", "wss://")


class JanusServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Janus: where it is and what it asks for."""

    url: str  # of its WebSocket API, "ws://…" or "wss://…"
    api_secret: str = ""
    token: str = ""  # an alternative to ``api_secret``
    admin_key: str = ""  # VideoRoom's, asked for when a room is created
    admin_url: str = ""  # of its Admin API over WebSocket; with it, handles that nobody owns are found and detached
    admin_secret: str = ""

    def __post_init__(self) -> None:
        if not self.url.startswith(SCHEMES):
            raise ValueError("`url` must begin with ws:// or wss://")
        if self.admin_url and not self.admin_url.startswith(SCHEMES):
            raise ValueError("`admin_url` must begin with ws:// or wss://")

    @property
    def secrets(self) -> dict[str, str]:
        """What goes into every request."""
        given = {"apisecret": self.api_secret, "token": self.token}
        return {name: value for name, value in given.items() if value}


def only(servers: tuple[JanusServer, ...]) -> JanusServer:
    """Return the one Janus that is configured.

    Raises:
        ValueError: it is not exactly one.
    """
    if len(servers) != 1:
        raise ValueError(f"exactly one [[mcu.janus]] is supported, {len(servers)} are configured")
    return servers[0]


def instance(configured: str) -> str:
    """Return the configured name of this gateway on Janus, or one that is drawn.

    With one that is drawn nothing of an earlier process is recognised.

    Raises:
        ValueError: it cannot stand in a label.
    """
    if configured and not INSTANCE.fullmatch(configured):
        raise ValueError("an instance is 1 to 32 letters, digits, dots, hyphens or underscores")
    return configured or secrets.token_hex(6)
