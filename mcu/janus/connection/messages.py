"""Messages between the gateway and Janus: decoded, encoded, and the errors in them. Pure: no loop, no socket, no clock.

Janus API reference, "WebSockets Interface" and "Request types"; measured with Janus 1.1.2 (docs/janus.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

SUBPROTOCOL = "janus-protocol"
ADMIN_SUBPROTOCOL = "janus-admin-protocol"
PLUGIN = "janus.plugin.videoroom"
OLDEST_VERSION = (1,)  # the first version whose VideoRoom has subscriptions to several m-lines
RECOMMENDED_VERSION = (1, 4, 1)  # the oldest version of Janus that has all its security fixes
# VideoRoom's description begins so if this module does nothing, because it does not know Janus' plugin interface.
UNKNOWN_INTERFACE = "janus-config/datachannels.c"
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Words, short numbers, and the type of a line of SDP without its value: neither "secret=x" nor "a=candidate".
_PLAIN_WORD = re.compile(r"[(']?[A-Za-z'/_-]{1,24}[,.)']*|[a-z]=|\d{1,5}")

NO_SUCH_SESSION = 458
NO_SUCH_HANDLE = 459


class InvalidJanusMessage(Exception):
    """A frame from Janus is not a message of its protocol."""


class JanusError(Exception):
    """Janus answered with an error of its core or of the plugin; ``code`` is Janus' number.

    The text is fit for the log: all but words and short numbers is cut out, and so is all text after the first colon,
    where Janus quotes the request, a line of SDP for instance.
    """

    def __init__(self, code: int, text: str) -> None:
        words = loggable(text).partition(":")[0].split()
        plain = " ".join(word if _PLAIN_WORD.fullmatch(word) else "…" for word in words)
        super().__init__(f"Janus: {plain} ({code})")
        self.code = code


class CreatedId(msgspec.Struct, frozen=True):
    """The ``data`` member of a success: the id of the new session or handle."""

    id: int = 0


class CoreError(msgspec.Struct, frozen=True):
    """The ``error`` member of an error answer."""

    code: int = 0
    reason: str = ""


class Jsep(msgspec.Struct, frozen=True):
    """A session description from Janus; its other members are not read."""

    type: str
    sdp: str


class RoomStream(msgspec.Struct, frozen=True):
    """One m-line of a subscriber's PeerConnection, as VideoRoom reports it."""

    type: str = ""
    mid: str = ""
    active: bool = True
    feed_mid: str | None = None


class ListedParticipant(msgspec.Struct, frozen=True):
    """One publisher in the answer to ``listparticipants``."""

    id: int | str = 0
    publisher: bool = False  # its PeerConnection is up


class ListedRoom(msgspec.Struct, frozen=True):
    """One room in the answer to VideoRoom's ``list``."""

    room: int
    description: str = ""
    num_participants: int = 0


class VideoRoomData(msgspec.Struct, frozen=True):
    """The members of VideoRoom's answers and events that are used here."""

    videoroom: str = ""
    room: int = 0
    error_code: int = 0
    error: str = ""
    streams: list[RoomStream] = []
    substream: int | None = None  # the simulcast layer that is sent from now on
    port: int = 0  # of add_remote_publisher: UDP, for RTP
    rtcp_port: int = 0
    rooms: list[ListedRoom] = msgspec.field(name="list", default=[])
    participants: list[ListedParticipant] = []


class PluginData(msgspec.Struct, frozen=True):
    """An answer or event of a plugin."""

    plugin: str = ""
    data: VideoRoomData = VideoRoomData()


class TrickledCandidate(msgspec.Struct, frozen=True):
    """A candidate of Janus, or the end of its candidates."""

    candidate: str = ""
    sdp_mid: str | None = msgspec.field(name="sdpMid", default=None)
    sdp_mline_index: int | None = msgspec.field(name="sdpMLineIndex", default=None)
    completed: bool = False


class HandleFlags(msgspec.Struct, frozen=True):
    """The state flags of a handle that are used here."""

    alert: bool = False  # its PeerConnection was hung up; since Janus 1.2.2 also set before there is one


class IncomingStats(msgspec.Struct, frozen=True):
    """Counters of the media that Janus receives on one m-line, or of one simulcast layer of it."""

    bytes_lastsec: int = 0
    layer_1: IncomingStats | None = msgspec.field(name="video-simulcast-1", default=None)
    layer_2: IncomingStats | None = msgspec.field(name="video-simulcast-2", default=None)


class HandleMediumStats(msgspec.Struct, frozen=True, rename={"incoming": "in"}):
    """The counters of one m-line."""

    incoming: IncomingStats = IncomingStats()


class HandleMedium(msgspec.Struct, frozen=True):
    """One m-line of a PeerConnection in ``handle_info``."""

    type: str = ""
    mid: str = ""
    stats: HandleMediumStats = HandleMediumStats()


class HandleWebRtc(msgspec.Struct, frozen=True):
    """The PeerConnection of a handle in ``handle_info``."""

    media: dict[str, HandleMedium] = {}


class HandleInfo(msgspec.Struct, frozen=True):
    """The ``info`` of the Admin API's ``handle_info``. Times are microseconds of Janus' clock."""

    opaque_id: str = ""
    session_last_activity: int = 0
    current_time: int = 0
    flags: HandleFlags = HandleFlags()
    webrtc: HandleWebRtc = HandleWebRtc()

    def layer_rates(self, mid: str) -> tuple[int, ...]:
        """Return the received bytes per second of the simulcast layers of an m-line; empty without that m-line."""
        for medium in self.webrtc.media.values():
            if medium.mid == mid:
                first = medium.stats.incoming
                layers = (first, first.layer_1, first.layer_2)
                return tuple(0 if layer is None else layer.bytes_lastsec for layer in layers)
        return ()

    @property
    def session_idle(self) -> float:
        """Seconds since the last request of the session."""
        return (self.current_time - self.session_last_activity) / 1e6


class JanusMessage(msgspec.Struct, frozen=True):
    """One message of Janus."""

    janus: str
    transaction: str = ""
    session_id: int = 0
    sender: int = 0
    data: CreatedId = CreatedId()
    plugindata: PluginData = PluginData()
    jsep: Jsep | None = None
    error: CoreError = CoreError()
    candidate: TrickledCandidate = TrickledCandidate()
    # of the event media:
    type: str = ""  # "audio", "video"
    mid: str = ""
    receiving: bool = False
    # of the event hangup:
    reason: str = ""
    # of server_info:
    name: str = ""
    version_string: str = ""
    data_channels: bool = False
    full_trickle: bool = msgspec.field(name="full-trickle", default=False)
    plugins: dict[str, Any] = {}  # opaque but for the names, and VideoRoom's name, version, author and description
    author: str = ""
    local_ip: str = msgspec.field(name="local-ip", default="")
    ipv6: bool = False
    event_handlers: bool = False  # an event handler is loaded and enabled
    reclaim_timeout: int = msgspec.field(name="reclaim-session-timeout", default=0)  # seconds
    # of the Admin API's list_sessions, list_handles and handle_info:
    sessions: list[int] = []
    handles: list[int] = []
    info: HandleInfo = HandleInfo()


def _encode_str_subclass(value: object) -> str:
    """Encode a secret, whose class keeps it out of the log, as plain text."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError


_DECODER = msgspec.json.Decoder(JanusMessage)
_ENCODER = msgspec.json.Encoder(enc_hook=_encode_str_subclass)


def parse(frame: str | bytes) -> JanusMessage:
    """Decode one frame.

    Raises:
        InvalidJanusMessage: the frame is not a message of Janus.
    """
    try:
        return _DECODER.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJanusMessage("a frame from Janus is not a message of its protocol") from error


def encode(janus: str, transaction: str, secrets: Mapping[str, str], fields: Mapping[str, Any]) -> str:
    """Encode a request; ``fields`` whose value is ``None`` or the id 0 are left out."""
    given = {name: value for name, value in fields.items() if value is not None and value != 0}
    return _ENCODER.encode({"janus": janus, "transaction": transaction, **secrets, **given}).decode()


def error_of(message: JanusMessage) -> JanusError | None:
    """Return the error that an answer reports, of the core or of the plugin."""
    if message.janus == "error":
        return JanusError(message.error.code, message.error.reason)
    answer = message.plugindata.data
    if answer.error_code:
        return JanusError(answer.error_code, answer.error)
    return None


def server_details(server_info: JanusMessage) -> dict[str, Any]:
    """Return the details of a Janus for its operator: plain JSON values (reference 1.3)."""
    room = _plugin(server_info)
    named = {"name": room.get("name"), "version": room.get("version_string"), "author": room.get("author")}
    return {
        "author": loggable(server_info.author),
        "datachannels": server_info.data_channels,
        "fulltrickle": server_info.full_trickle,
        "localip": loggable(server_info.local_ip),
        "ipv6": server_info.ipv6,
        "videoroom": {key: loggable(text) for key, text in named.items() if isinstance(text, str)},
    }


def _plugin(server_info: JanusMessage) -> dict[str, Any]:
    plugin = server_info.plugins.get(PLUGIN)
    return plugin if isinstance(plugin, dict) else {}


def restriction(server_info: JanusMessage) -> str:
    """Return one sentence about the functions that a usable Janus lacks; empty: it lacks none."""
    description = _plugin(server_info).get("description")
    if isinstance(description, str) and description.startswith(UNKNOWN_INTERFACE):
        return f"VideoRoom of this Janus works without {loggable(description)}"
    return ""


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: 1.4.1 as (1, 4, 1)."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def reason_unusable(server_info: JanusMessage) -> str:
    """Return the reason why this Janus cannot be used, in one sentence; empty if it can be used."""
    if () < version_numbers(server_info.version_string) < OLDEST_VERSION:
        return f"this is Janus {loggable(server_info.version_string)}; 1.0 is the first that can be used"
    if PLUGIN not in server_info.plugins:
        return "this Janus has no VideoRoom plugin (janus.plugin.videoroom)"
    if not server_info.data_channels:
        return "this Janus was built without data channels"
    return ""


def loggable(text: str) -> str:
    """Return a text of Janus without control characters and shortened, for a log line or an error."""
    return _CONTROL_CHARACTER.sub(" ", text)[:160]
