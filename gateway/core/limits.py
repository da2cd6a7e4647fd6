"""Settings that the core applies: limits, backends, quality rules. ``gateway.config`` reads them.

Source: docs/operations.md, "Configuration"; reference 3.6.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, structs

Bitrate = Annotated[int, Meta(ge=0)]  # bit/s
Floor = Annotated[int, Meta(ge=16_000)]  # bit/s

ANY_CODEC = "*"  # in a list of codecs: every codec that the list does not name
AUDIO_CODECS = frozenset({"opus", "g722", "pcmu", "pcma"})
VIDEO_CODECS = frozenset({"vp8", "vp9", "h264", "av1", "h265"})


class QualityRules(Struct, frozen=True):
    """Bitrates and codecs for the streams of a room (docs/mcu.md, "Quality"); ``gateway.core.policy`` applies them."""

    room_budget: Bitrate = 0  # bit/s that all video streams of a room share; 0 = no budget
    floor: Floor = 64_000  # bit/s that each video stream gets at least, while the budget suffices
    ceiling: Bitrate = 0  # bit/s of a camera's video; 0 = the stream's limit
    one_to_one: Bitrate = 0  # bit/s in place of ``ceiling`` in a call of two, if higher
    screen: Bitrate = 0  # bit/s of a shared screen; 0 = the stream's limit
    audiocodecs: tuple[str, ...] = ()  # allowed, preferred first; empty = all
    videocodecs: tuple[str, ...] = ()

    @property
    def limits_bitrate(self) -> bool:
        """Whether a stream may be limited below its own maximum."""
        return bool(self.room_budget or self.ceiling or self.screen)


class BackendQualityRules(Struct, frozen=True):
    """The quality rules of one backend; ``None`` means the value of ``[quality]``."""

    room_budget: Bitrate | None = None
    floor: Floor | None = None
    ceiling: Bitrate | None = None
    one_to_one: Bitrate | None = None
    screen: Bitrate | None = None
    audiocodecs: tuple[str, ...] | None = None
    videocodecs: tuple[str, ...] | None = None

    def with_defaults(self, default: QualityRules) -> QualityRules:
        """Return the backend's rules, with unset values taken from ``default``."""
        own = {name: getattr(self, name) for name in self.__struct_fields__}
        return structs.replace(default, **{name: value for name, value in own.items() if value is not None})


class Backend(Struct, frozen=True):
    """One Nextcloud server; its rooms, users and sessions are isolated from those of other backends."""

    id: str
    urls: tuple[str, ...]  # base URLs, as clients and Nextcloud send them
    secret: str  # shared with Nextcloud; signs requests in both directions
    session_limit: int = 0  # sessions of type client and federation; 0 = no limit
    max_stream_bitrate: int = 0  # bit/s, 0 = the SFU's limit
    max_screen_bitrate: int = 0
    quality: BackendQualityRules = BackendQualityRules()


class FederationRules(Struct, frozen=True):
    """``[federation]``: the signaling servers whose rooms clients may join (docs/operations.md, "Federation")."""

    enabled: bool = True
    allow_insecure: bool = False  # also ``ws`` and ``http``
    ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = ()  # besides 443
    allowed: tuple[str, ...] = ()  # networks that are allowed although they are not public
    certificate_authorities: str = ""  # path of a PEM file; trusted besides the system's
    timeout: Annotated[float, Meta(gt=0)] = 10.0  # seconds to connect, and again for the hello and for the join
    message_bytes: Annotated[int, Meta(ge=65_536)] = 1_048_576  # of one message of another server


Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


class Limits(Struct, frozen=True):
    """Limits on resources that clients may use; 0 = no limit. The defaults exceed the needs of every real client."""

    http_read_timeout: Seconds = 15.0  # seconds to receive the head of a request, and again for its body (1.1)
    backend_request_bytes: Count = 4_194_304  # of a request of the rooms API (1.4, row 2)
    idle_connections_per_address: Count = 500  # TCP connections without a request
    connections_per_address: Count = 5000  # IPv6: per /64 network
    hellos_per_address: Count = 1000  # connections that have not sent a hello
    messages_before_hello: Count = 100  # per connection, until its hello succeeds; control frames and fragments count
    bytes_before_hello: Count = 262_144
    messages_per_second: Count = 1000  # per session, sustained
    messages_burst: Count = 5000
    bytes_per_second: Count = 4_194_304  # per session, sustained
    bytes_burst: Count = 3_145_728  # twice this fits into an outbox (sessions.outbox_bytes)
    relayed_bytes_per_second: Count = 1_048_576  # to one room or session, by all senders together
    relayed_bytes_burst: Count = 2_097_152
    join_bytes_per_second: Count = 16_384  # join events of one user, or of the guests of one network, in one room
    join_bytes_burst: Count = 1_310_720  # 1,200 joins of guests
    features: Count = 64  # of one client
    feature_length: Count = 64  # characters
    id_length: Count = 512  # characters of a room's id or of a Nextcloud session id that a client names
    user_bytes: Count = 4096  # user data of a session or virtual session
    sessions_per_user: Count = 200  # of one backend
    sessions_per_address: Count = 5000
    outbox_bytes_room: Count = 67_108_864  # outboxes of all sessions in a room; shared messages count once
    outbox_bytes_backend: Count = 134_217_728
    outbox_bytes_process: Count = 268_435_456
    description_bytes_per_second: Count = 524_288  # of offers and answers, per session, sustained
    description_bytes_burst: Count = 2_097_152  # the answers to 300 subscriptions
    offers_per_second: Count = 4  # of a session that publishes, sustained
    offers_burst: Count = 300
    stream_requests_per_second: Count = 100  # requestoffer and sendoffer of one session, sustained
    stream_requests_burst: Count = 3000
    publishers: Count = 2  # per session
    subscriptions: Count = 1000  # per session
    waiting_requests: Count = 1000  # media messages of a session that wait for the SFU
    transient_keys: Count = 10_000  # per room
    transient_key_length: Count = 1024  # bytes
    transient_bytes: Count = 4_194_304  # keys and values of a room
    virtual_sessions: Count = 1000  # per internal client
    federated_rooms_per_user: Count = 200  # sessions in rooms of other servers; of a guest: per network of its address
    federated_rooms_per_server: Count = 2000  # of one other server
    federated_rooms_per_backend: Count = 10_000


def exceeds(count: int, limit: int) -> bool:
    """Return whether ``count`` is above ``limit``; 0 = no limit."""
    return 0 < limit < count
