"""What travels between the gateway and Janus, and what a message means. Pure: no loop, no socket, no clock.

Janus API reference, "WebSockets Interface" and "Request types"; measured with Janus 1.1.2 (docs/janus.md).

A request is answered in one of three ways (``Expect``); which message of Janus ends it is the table ``STEPS``::

    expected   ack     success  server_info  event    error
    ACK        done    done     -            -        failed
    SUCCESS    wait    done     done         done     failed
    EVENT      wait    done     -            done     failed

An abandoned request whose success arrives later has left something on Janus; ``Transactions.settle`` says what to undo.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

SUBPROTOCOL = "janus-protocol"
ADMIN_SUBPROTOCOL = "janus-admin-protocol"
PLUGIN = "janus.plugin.videoroom"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
ID = re.compile(r"\d{6,}")  # of a session, a handle or a room

NO_SUCH_SESSION = 458
NO_SUCH_HANDLE = 459
UNAUTHORIZED = 403


class InvalidJanusMessage(Exception):
    """Janus sent what is not its protocol."""


class JanusError(Exception):
    """Janus answered with an error of its core or of the plugin; ``code`` is Janus' number.

    The text is fit for the log: without ids, and without what Janus quotes of the request behind a colon, a line of SDP
    for instance.
    """

    def __init__(self, code: int, text: str) -> None:
        words = ID.sub("…", printable(text).partition(":")[0])
        super().__init__(f"Janus: {words} ({code})")
        self.code = code


class Expect(Enum):
    """How a request is answered."""

    ACK = "ack"  # trickle, keepalive
    SUCCESS = "success"  # core requests, and plugin requests that are carried out at once
    EVENT = "event"  # plugin requests that are acknowledged and answered later


class Step(Enum):
    """What a message of Janus means for the request that it names."""

    WAIT = "wait"
    DONE = "done"
    FAILED = "failed"


class Route(Enum):
    """Whom a message of Janus concerns."""

    REPLY = "reply"  # the request that it names
    HANDLE = "handle"  # the handle in ``sender``
    SESSION_ENDED = "session_ended"
    NOBODY = "nobody"


STEPS = {
    (Expect.ACK, "ack"): Step.DONE,
    (Expect.ACK, "success"): Step.DONE,
    (Expect.SUCCESS, "ack"): Step.WAIT,
    (Expect.SUCCESS, "success"): Step.DONE,
    (Expect.SUCCESS, "server_info"): Step.DONE,
    (Expect.SUCCESS, "event"): Step.DONE,
    (Expect.EVENT, "ack"): Step.WAIT,
    (Expect.EVENT, "success"): Step.DONE,
    (Expect.EVENT, "event"): Step.DONE,
    (Expect.ACK, "error"): Step.FAILED,
    (Expect.SUCCESS, "error"): Step.FAILED,
    (Expect.EVENT, "error"): Step.FAILED,
}

ROUTES = {
    "event": Route.HANDLE,
    "webrtcup": Route.HANDLE,
    "media": Route.HANDLE,
    "slowlink": Route.HANDLE,
    "trickle": Route.HANDLE,
    "hangup": Route.HANDLE,
    "detached": Route.HANDLE,
    "timeout": Route.SESSION_ENDED,
}


class CreatedId(msgspec.Struct, frozen=True):
    """The ``data`` of a success: the id of what was made."""

    id: int = 0


class CoreError(msgspec.Struct, frozen=True):
    """The ``error`` of an error."""

    code: int = 0
    reason: str = ""


class Jsep(msgspec.Struct, frozen=True):
    """A session description; only these two of its members are ever sent or read."""

    type: str
    sdp: str


class RoomStream(msgspec.Struct, frozen=True):
    """One m-line of a subscriber, as VideoRoom tells of it."""

    type: str = ""
    mid: str = ""
    active: bool = True
    feed_mid: str | None = None


class ListedParticipant(msgspec.Struct, frozen=True):
    """One publisher of a room, in VideoRoom's list."""

    id: int | str = 0
    publisher: bool = False  # its PeerConnection is up


class ListedRoom(msgspec.Struct, frozen=True):
    """One room in VideoRoom's list."""

    room: int
    description: str = ""
    num_participants: int = 0


class VideoRoomData(msgspec.Struct, frozen=True):
    """What VideoRoom says, in reply or of its own accord; the fields that are of use here."""

    videoroom: str = ""
    room: int = 0
    error_code: int = 0
    error: str = ""
    streams: list[RoomStream] = []
    substream: int | None = None  # the layer of simulcast that comes from now on
    port: int = 0  # of add_remote_publisher: UDP, for RTP
    rtcp_port: int = 0
    rooms: list[ListedRoom] = msgspec.field(name="list", default=[])
    participants: list[ListedParticipant] = []


class PluginData(msgspec.Struct, frozen=True):
    """What a plugin says."""

    plugin: str = ""
    data: VideoRoomData = VideoRoomData()


class TrickledCandidate(msgspec.Struct, frozen=True):
    """A candidate of Janus, or the end of them."""

    candidate: str = ""
    sdp_mid: str | None = msgspec.field(name="sdpMid", default=None)
    sdp_mline_index: int | None = msgspec.field(name="sdpMLineIndex", default=None)
    completed: bool = False


class HandleFlags(msgspec.Struct, frozen=True):
    """Of the states of a PeerConnection those that are of use here."""

    alert: bool = False  # it was hung up


class IncomingStats(msgspec.Struct, frozen=True):
    """What came in of a medium."""

    bytes_lastsec: int = 0


class HandleMediumStats(msgspec.Struct, frozen=True, rename={"incoming": "in"}):
    """What came in and went out of a medium."""

    incoming: IncomingStats = IncomingStats()


class HandleMedium(msgspec.Struct, frozen=True):
    """One m-line of a PeerConnection, as the Admin API tells of it."""

    type: str = ""
    mid: str = ""
    stats: HandleMediumStats = HandleMediumStats()


class HandleWebRtc(msgspec.Struct, frozen=True):
    """A PeerConnection, as the Admin API tells of it."""

    media: dict[str, HandleMedium] = {}


class HandleInfo(msgspec.Struct, frozen=True):
    """A handle, as the Admin API tells of it (handle_info). Times are microseconds of Janus' clock."""

    opaque_id: str = ""
    session_last_activity: int = 0
    current_time: int = 0
    flags: HandleFlags = HandleFlags()
    webrtc: HandleWebRtc = HandleWebRtc()

    @property
    def idle(self) -> float:
        """Seconds since anybody asked something of the session."""
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
    type: str = ""  # media: "audio" or "video"
    mid: str = ""  # media
    receiving: bool = False  # media
    reason: str = ""  # hangup
    # of server_info:
    name: str = ""
    version_string: str = ""
    data_channels: bool = False
    full_trickle: bool = msgspec.field(name="full-trickle", default=False)
    plugins: dict[str, Any] = {}  # opaque: only the names count, and what VideoRoom says of itself
    author: str = ""
    local_ip: str = msgspec.field(name="local-ip", default="")
    ipv6: bool = False
    reclaim: int = msgspec.field(name="reclaim-session-timeout", default=0)  # seconds
    # of the Admin API's list_sessions, list_handles and handle_info:
    sessions: list[int] = []
    handles: list[int] = []
    info: HandleInfo = HandleInfo()


def _plain(value: object) -> str:
    """Encode a text of a class of its own: secrets are such, so that they do not show themselves in a log."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError


_DECODER = msgspec.json.Decoder(JanusMessage)
_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def parse(frame: str | bytes) -> JanusMessage:
    """Decode one frame.

    Raises:
        ProtocolError: it is no message of Janus.
    """
    try:
        return _DECODER.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJanusMessage("Janus sent what is not its protocol") from error


def encode(janus: str, transaction: str, secrets: Mapping[str, str], fields: Mapping[str, Any]) -> str:
    """Encode a request; ``fields`` whose value is ``None`` or the id 0 are left out."""
    given = {name: value for name, value in fields.items() if value is not None and value != 0}
    return _ENCODER.encode({"janus": janus, "transaction": transaction, **secrets, **given}).decode()


def details(server: JanusMessage) -> dict[str, Any]:
    """Return what a Janus says of itself, for people: plain JSON values (reference 1.3)."""
    plugin = server.plugins.get(PLUGIN)
    room = plugin if isinstance(plugin, dict) else {}
    named = {"name": room.get("name"), "version": room.get("version_string"), "author": room.get("author")}
    return {
        "author": printable(server.author),
        "datachannels": server.data_channels,
        "fulltrickle": server.full_trickle,
        "localip": printable(server.local_ip),
        "ipv6": server.ipv6,
        "videoroom": {key: printable(text) for key, text in named.items() if isinstance(text, str)},
    }


def refusal(server: JanusMessage) -> str:
    """Say in one sentence why this Janus cannot be used; empty: it can."""
    if PLUGIN not in server.plugins:
        return "this Janus has no VideoRoom plugin (janus.plugin.videoroom)"
    if not server.data_channels:
        return "this Janus was built without data channels"
    return ""


def printable(text: str) -> str:
    """Shorten a text of Janus so that it can stand in a log line or an error."""
    return CONTROL.sub(" ", text)[:160]


class Pending(msgspec.Struct):
    """A request on its way."""

    expect: Expect
    leaves: bool  # whether its success leaves something on Janus
    abandoned: bool = False


class Settled(msgspec.Struct, frozen=True):
    """A request that has ended; ``late``: nobody waited when it succeeded, and what it left is to be undone."""

    transaction: str
    step: Step
    late: bool = False


class Transactions:
    """The requests on their way, by transaction; Janus wants the transaction as a string."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[str, Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, expect: Expect, leaves: bool = False) -> str:
        """Start a request and return its transaction."""
        transaction = str(next(self._numbers))
        self._pending[transaction] = Pending(expect, leaves)
        return transaction

    def unheard(self) -> str:
        """Return a transaction that is not followed: what answers it goes to the handle like any event."""
        return str(next(self._numbers))

    def abandon(self, transaction: str) -> None:
        """Note that nobody waits any more; remembered only where a late success leaves something."""
        pending = self._pending.get(transaction)
        if pending is None:
            return
        if pending.leaves:
            pending.abandoned = True
        else:
            del self._pending[transaction]

    def forget(self, transaction: str) -> None:
        """Take back a request that never left."""
        self._pending.pop(transaction, None)

    def route(self, message: JanusMessage) -> Route:
        """Tell whom a message concerns. A late answer to an abandoned plugin request is its handle's event."""
        if message.transaction in self._pending:
            return Route.REPLY
        return ROUTES.get(message.janus, Route.NOBODY)

    def settle(self, message: JanusMessage) -> Settled | None:
        """Take a message routed as REPLY; ``None``: the request goes on."""
        pending = self._pending[message.transaction]
        step = STEPS.get((pending.expect, message.janus), Step.WAIT)
        if step is Step.WAIT:
            return None
        del self._pending[message.transaction]
        return Settled(message.transaction, step, pending.abandoned and failure(message) is None)


def failure(message: JanusMessage) -> JanusError | None:
    """Return the error that a reply reports, of the core or of the plugin."""
    if message.janus == "error":
        return JanusError(message.error.code, message.error.reason)
    answer = message.plugindata.data
    if answer.error_code:
        return JanusError(answer.error_code, answer.error)
    return None
