"""An authenticated session; it outlives its connection.

Source: reference 2.5-2.8, 3.5.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Raw

from gateway.core.actor import actor_of
from gateway.core.former_sids import FormerSids
from gateway.core.geolocation import UNKNOWN_COUNTRY, GeoLocation
from gateway.core.ids import ConnectionId, ResumeId, RoomSessionId, SessionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.permissions import Permissions
from gateway.core.relay_budget import GRANT, RelayBudget
from gateway.core.room import RoomKey
from gateway.core.seat import JoinElsewhere, Seat
from gateway.core.token_bucket import QuantityBucket
from gateway.wire.server import Sender, encode_sender

if TYPE_CHECKING:
    from gateway.core.virtual import VirtualSession

EXPIRY = 30.0  # seconds a session outlives its connection (2.5)
INTERNAL_INCALL = "internal-incall"  # feature of internal clients that set in-call flags themselves (11.5)
START_DIALOUT = "start-dialout"  # feature of internal clients that make phone calls (11.5)
INTERNAL_CALL_FLAGS = 3  # of internal clients without ``INTERNAL_INCALL``: in the call, sending audio (3.4)
JOIN_TIMEOUT = 10.0  # seconds within which an anonymous session must join a room (2.5)


class ClientType(Enum):
    """The type of a client; the value is its name in the hello message and in metrics."""

    CLIENT = "client"
    INTERNAL = "internal"
    FEDERATION = "federation"


class Session:
    """The state of a session.

    Only the hub changes it, except for outbox, token buckets, budgets, former sids, location, the number of messages
    received, and the cached pieces of messages.
    """

    __slots__ = (
        "actor",
        "backend",
        "call_flags",
        "client_type",
        "connection",
        "description_bucket",
        "evicted_by",
        "expires_at",
        "features",
        "former_sids",
        "id",
        "join_by",
        "join_entries",
        "joining",
        "location",
        "network",
        "offer_bucket",
        "open",
        "outbox",
        "permissions",
        "received",
        "relay_budget",
        "relay_share",
        "replaced_room_session_id",
        "resume_id",
        "room",
        "room_session_given",
        "room_session_id",
        "room_userid",
        "seat",
        "senders",
        "stream_request_bucket",
        "url",
        "user",
        "userid",
        "virtuals",
    )

    def __init__(
        self,
        ids: tuple[SessionId, ResumeId],
        backend: Backend,
        url: str,
        userid: str,
        user: Raw,
        features: tuple[str, ...],
        outbox: Outbox,
        client_type: ClientType = ClientType.CLIENT,
    ) -> None:
        self.id, self.resume_id = ids
        self.backend = backend
        self.url = url  # base URL of the backend to which requests go (3.6)
        self.userid = userid  # empty: anonymous
        self.user = user  # opaque, shown to other clients
        self.features = features
        self.outbox = outbox
        self.client_type = client_type
        self.actor = actor_of(user) if client_type is ClientType.FEDERATION else None  # its identity at Nextcloud
        self.permissions = Permissions()
        self.description_bucket = QuantityBucket()
        self.offer_bucket = QuantityBucket()
        self.stream_request_bucket = QuantityBucket()
        self.former_sids = FormerSids()  # of its streams
        self.location: GeoLocation = UNKNOWN_COUNTRY  # location of the connected client
        self.network: int | None = None  # network of the client's address at its hello; None: not counted
        self.open = True
        self.connection: ConnectionId | None = None
        self.expires_at: float | None = None
        self.join_by: float | None = None
        self.room: RoomKey | None = None
        self.seat: Seat | None = None  # in a room of another server; ``room`` is ``None`` then
        self.joining: JoinElsewhere | None = None  # a join of a room of another server that is under way
        self.room_userid = ""  # user id that Nextcloud gave for this room (4.1)
        self.room_session_id = RoomSessionId("")  # as registered; the public id when the client gave none
        self.replaced_room_session_id = RoomSessionId("")  # set while the public id takes its place (4.1)
        self.room_session_given = False  # whether join events, pings and leave requests have ``room_session_id``
        self.evicted_by: bytes | None = None  # queued event that ends the session once delivered (2.7)
        self.senders: dict[str, bytes] = {}  # encoded heads of messages, by recipient type
        self.join_entries: dict[str, bytes] = {}  # encoded join entry, by form
        sets_own_flags = INTERNAL_INCALL in features
        self.call_flags = INTERNAL_CALL_FLAGS if self.is_internal and not sets_own_flags else 0
        self.virtuals: dict[str, VirtualSession] = {}  # virtual sessions of an internal client, by the name it chose
        self.relay_budget = RelayBudget(GRANT)  # for messages to this session
        self.relay_share = QuantityBucket()  # for messages of this session beyond the budget of their recipients
        self.received = 0  # messages received from the client since its hello, refused messages included

    def attach(self, connection: ConnectionId) -> ConnectionId | None:
        """Make a connection the current one and return the connection that it replaces."""
        displaced, self.connection = self.connection, connection
        self.expires_at = None
        return displaced

    def detach(self, connection: ConnectionId, now: float) -> bool:
        """Clear the connection if it is still the current one (invariant 4), and start the expiry timer."""
        if self.connection != connection:
            return False
        self.connection = None
        self.expires_at = now + EXPIRY
        return True

    @property
    def is_internal(self) -> bool:
        """Whether this is the session of an internal client (recording, SIP bridge)."""
        return self.client_type is ClientType.INTERNAL

    @property
    def accepts_messages(self) -> bool:
        """Whether messages of its client are carried out: it is open, and not about to end by a disinvitation (2.7)."""
        return self.open and self.evicted_by is None

    def may(self, permission: str) -> bool:
        """Return whether the session has a permission; internal clients have all (8)."""
        return self.is_internal or self.permissions.allows(permission)

    @property
    def shown_userid(self) -> str:
        """The user id that other clients see in this room."""
        return self.userid or self.room_userid

    def sender(self, recipient: str) -> bytes:
        """Return the encoded head of this session's messages to a recipient type; cached until the room changes."""
        sender = self.senders.get(recipient)
        if sender is None:
            sender = self.senders[recipient] = encode_sender(Sender(recipient, self.id, self.shown_userid))
        return sender

    def control_sender(self, recipient: str) -> bytes:
        """Return the encoded head of this session's ``control`` messages to a recipient type."""
        key = f"control {recipient}"
        sender = self.senders.get(key)
        if sender is None:
            sender = self.senders[key] = encode_sender(Sender(recipient, self.id, self.shown_userid), control=True)
        return sender
