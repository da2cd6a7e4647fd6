"""The limits and the backends that the core applies, as values; ``gateway.config`` fills them from the file.

Source: docs/operations.md, "Configuration"; reference 3.6.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, structs

Bitrate = Annotated[int, Meta(ge=0)]  # bit/s
Floor = Annotated[int, Meta(ge=16_000)]

ANY_CODEC = "*"  # in a list of codecs: all that are not named
AUDIO_CODECS = frozenset({"opus", "g722", "pcmu", "pcma"})
VIDEO_CODECS = frozenset({"vp8", "vp9", "h264", "av1", "h265"})


class Quality(Struct, frozen=True):
    """What the streams of a room may use (docs/mcu.md, "Quality"); the policy is ``gateway.core.policy``."""

    room_budget: Bitrate = 0  # bit/s that the pictures of a room share; 0 = no budget
    floor: Floor = 64_000  # bit/s of each picture, as long as the budget has them
    ceiling: Bitrate = 0  # bit/s of a camera's picture; 0 = the stream's limit
    one_to_one: Bitrate = 0  # in place of ``ceiling`` in a call of two, if it is more
    screen: Bitrate = 0  # bit/s of a screen's picture; 0 = the stream's limit
    audiocodecs: tuple[str, ...] = ()  # allowed, preferred first; empty = all
    videocodecs: tuple[str, ...] = ()

    @property
    def limits_bitrate(self) -> bool:
        """Whether any stream may have less than its own limit."""
        return bool(self.room_budget or self.ceiling or self.screen)


class BackendQuality(Struct, frozen=True):
    """The same for one backend; ``None``: as it stands under ``[quality]``."""

    room_budget: Bitrate | None = None
    floor: Floor | None = None
    ceiling: Bitrate | None = None
    one_to_one: Bitrate | None = None
    screen: Bitrate | None = None
    audiocodecs: tuple[str, ...] | None = None
    videocodecs: tuple[str, ...] | None = None

    def with_defaults(self, default: Quality) -> Quality:
        """Return what counts for the backend."""
        own = {name: getattr(self, name) for name in self.__struct_fields__}
        return structs.replace(default, **{name: value for name, value in own.items() if value is not None})


class Backend(Struct, frozen=True):
    """One Nextcloud: rooms, users and sessions of two backends never meet."""

    id: str
    urls: tuple[str, ...]  # base URLs, any of them
    secret: str  # shared with Nextcloud, for checksums in both directions
    session_limit: int = 0  # sessions of type client and federation; 0 = none
    max_stream_bitrate: int = 0  # bit/s, 0 = the SFU's limit
    max_screen_bitrate: int = 0
    quality: BackendQuality = BackendQuality()


Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class Limits(Struct, frozen=True):
    """What one client may use up; 0 = no limit. The defaults are more than any real client needs."""

    http_read_timeout: Seconds = 15.0  # for the head of a request, and then for its body (1.1)
    connections_per_address: Count = 5000  # IPv6: per /64 network
    hellos_per_address: Count = 1000  # connections that have not said hello
    messages_per_second: Count = 1000  # per session, sustained
    messages_burst: Count = 5000
    bytes_per_second: Count = 4_194_304  # per session, sustained
    bytes_burst: Count = 33_554_432
    publishers: Count = 2  # per session
    subscriptions: Count = 1000  # per session
    waiting_requests: Count = 1000  # media messages of a session that wait for the SFU
    transient_keys: Count = 10_000  # per room
    transient_key_length: Count = 1024  # bytes
    transient_bytes: Count = 4_194_304  # keys and values of a room
    virtual_sessions: Count = 1000  # per internal client


def exceeds(count: int, limit: int) -> bool:
    """Whether there are more than the limit allows; 0 = no limit."""
    return 0 < limit < count
