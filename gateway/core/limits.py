"""The limits and the backends that the core applies, as values; ``gateway.config`` fills them from the file.

Source: design, configuration contract; behaviour reference 3.6.
"""

from __future__ import annotations

from msgspec import Struct


class Backend(Struct, frozen=True):
    """One Nextcloud: rooms, users and sessions of two backends never meet."""

    id: str
    urls: tuple[str, ...]  # base URLs, any of them
    secret: str  # shared with Nextcloud, for checksums in both directions
    session_limit: int = 0  # sessions of type client and federation; 0 = none
    max_stream_bitrate: int = 0  # bit/s, 0 = the SFU's limit
    max_screen_bitrate: int = 0
