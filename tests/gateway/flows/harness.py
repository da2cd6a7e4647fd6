"""The flows of one gateway over fake ports, and fake clients that send messages to them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from typing import Any, Self

from gateway.core.backends import Backends
from gateway.core.ids import SessionId, SessionIds
from gateway.core.limits import Backend
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.flows.client_connection import ClientConnection
from gateway.flows.services import Services
from gateway.flows.settings import FlowSettings, MediaLimits
from gateway.flows.wiring import Flows
from gateway.metrics import Counters
from gateway.tracing import Tracer
from gateway.wire import checksum
from gateway.wire.backend import decode_rooms_request
from gateway.wire.server import ServerInfo
from mcu.base import Mcu, StreamType
from sdp.candidates import CandidateFilter
from tests.gateway.flows.fakes import FakeConnection, FakeNextcloudPort
from tests.gateway.flows.media.descriptions import offer
from tests.gateway.flows.media.fake_mcu import FakeMcu, FakePublisher
from tests.gateway.flows.virtual_time import settle

Json = dict[str, Any]

CLOUD = Backend("cloud", ("https://cloud.example/",), "secret of the cloud")
OTHER_CLOUD = Backend("other", ("https://other.example/",), "secret of the other")
INTERNAL_SECRET = "shared with internal clients"
WALL_TIME = 1_700_000_000.0  # unix time at which the loop's time is 0


def internal_params(url: str) -> Json:
    """Return ``auth.params`` of an internal client that works for the backend of this URL."""
    random = "r" * 32
    return {"random": random, "token": checksum.sign(INTERNAL_SECRET, random, b""), "backend": url}


class FlowHarness:
    """One gateway without its edge, over a fake SFU or over ``sfu``; an asynchronous context manager.

    With the fake SFU it runs in a virtual loop (``virtual_time.py``). ``without_permissions``: Nextcloud's answers to
    joins name none, so that members may also set transient data.
    """

    def __init__(
        self,
        *backends: Backend,
        mcu: bool = True,
        sfu: Mcu | None = None,
        outbox_bytes: int = 8 << 20,
        media_limits: MediaLimits | None = None,
        candidate_filter: CandidateFilter | None = None,
        reset_sessions_on_loss: bool = False,
        without_permissions: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._entropy = 0
        self._connections = 0
        self.mcu = FakeMcu()
        self.nextcloud = FakeNextcloudPort(without_permissions=without_permissions)
        self.counters = Counters()
        self.services = Services(
            settings=FlowSettings(
                Backends(backends or (CLOUD, OTHER_CLOUD)),
                internal_secret=INTERNAL_SECRET,
                media_limits=media_limits or MediaLimits(),
                candidate_filter=candidate_filter or CandidateFilter(),
                reset_sessions_on_loss=reset_sessions_on_loss,
            ),
            nextcloud=self.nextcloud,
            mcu=(sfu or self.mcu) if mcu else None,
            counters=self.counters,
            ids=SessionIds("a secret of the tests, long enough"),
            server=ServerInfo("test/1.0", ("a", "b")),
            server_internal=ServerInfo("test/1.0", ("a", "internal")),
            server_welcome=ServerInfo("test/1.0", ("a", "b", "internal")),
            outbox_bytes=outbox_bytes,
            clock=loop.time,
            wall_clock=lambda: WALL_TIME + loop.time(),
            entropy=self._bytes,
            tracer=tracer,
        )
        self.hub = self.services.hub
        self.flows = Flows(self.services)
        self.media, self.dispatch, self.pings = self.flows.media, self.flows.dispatch, self.flows.pings
        self.mcu.on_state = self.media.sfu_changed
        self.flows.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.flows.close()

    def _bytes(self, count: int) -> bytes:
        self._entropy += 1
        return hashlib.sha512(self._entropy.to_bytes(8)).digest()[:count]

    def change_settings(self, **changes: Any) -> None:
        """Replace some of the settings, as a reload of the configuration does."""
        self.flows.apply(dataclasses.replace(self.services.settings, **changes))

    def connect(self, address: str = "192.0.2.1") -> FakeClient:
        """Connect a client, which receives the welcome message and sends nothing."""
        self._connections += 1
        return FakeClient(self, FakeConnection(self._connections, address))

    async def hello(self, userid: str = "", backend: Backend = CLOUD, *, features: tuple[str, ...] = ()) -> FakeClient:
        """Connect a client that sends a hello; the messages up to the reply are read."""
        client = self.connect()
        client.send_hello(userid, url=backend.urls[0], features=features)
        await client.read_hello_reply()
        return client

    async def internal_hello(self, *features: str, backend: Backend = CLOUD) -> FakeClient:
        """Connect an internal client that sends a hello; the messages up to the reply are read."""
        client = self.connect()
        auth = {"type": "internal", "params": internal_params(backend.urls[0])}
        client.send({"type": "hello", "hello": {"version": "1.0", "auth": auth, "features": features}})
        await client.read_hello_reply()
        return client

    async def resume(self, client: FakeClient) -> FakeClient:
        """Resume a session on another connection; the messages from the hello reply on are unread."""
        again = self.connect()
        again.received()
        again.sessionid, again.resumeid = client.sessionid, client.resumeid
        again.send({"type": "hello", "hello": {"version": "1.0", "resumeid": client.resumeid}})
        await settle()
        return again

    async def member(
        self,
        userid: str,
        room: str = "r",
        *,
        in_call: bool = False,
        backend: Backend = CLOUD,
        features: tuple[str, ...] = (),
    ) -> FakeClient:
        """Return a client that has joined a room, and its call if ``in_call``; its messages are read."""
        client = await self.hello(userid, backend, features=features)
        client.join(room, f"nc-{userid}")
        await settle()
        if in_call:
            self.set_in_call(room, userid, backend=backend)
        await settle()
        client.received()
        return client

    async def callers(self, *userids: str) -> list[FakeClient]:
        """Return clients that have joined one call; their messages are read."""
        clients = [await self.member(userid, in_call=True) for userid in userids]
        for client in clients:
            client.received()
        return clients

    def set_in_call(self, room: str, *userids: str, flags: int = 7, backend: Backend = CLOUD) -> None:
        """Set the in-call flags of users by a request of the rooms API; ``0``: not in the call."""
        changed = [{"sessionId": f"nc-{userid}", "inCall": flags} for userid in userids]
        self.rooms_api(room, {"type": "incall", "incall": {"incall": flags, "changed": changed}}, backend)

    def rooms_api(self, room: str, request: Json, backend: Backend = CLOUD) -> None:
        """Carry out a request of the rooms API."""
        self.flows.backend_requests.handle(backend, room, decode_rooms_request(json.dumps(request).encode()))

    async def dial_out(self, room: str, call: Json, backend: Backend = CLOUD, url: str = "") -> tuple[int, Json]:
        """Request a dialout as the rooms API does; return the HTTP status and the ``dialout`` object of the reply."""
        request = decode_rooms_request(json.dumps({"type": "dialout", "dialout": call}).encode())
        assert request.dialout is not None
        reply = await self.flows.dialouts.start(backend, room, request.dialout, url)
        body = json.loads(reply.body)
        assert body["type"] == "dialout"
        return reply.status, body["dialout"]

    async def sweep(self, seconds: float = 0.0) -> None:
        """Let time pass in one step, and apply the time limits of connections and sessions."""
        if seconds:
            await asyncio.sleep(seconds)
        self.dispatch.sweep(self.services.clock())
        self.flows.outbox_totals.sweep(self.services.clock())
        await settle()

    def room(self, id: str = "r", backend: Backend = CLOUD) -> Room:
        """Return a room that exists."""
        room = self.hub.room(backend, id)
        assert room is not None
        return room

    def publisher(self, client: FakeClient, stream_type: StreamType = StreamType.VIDEO) -> FakePublisher | None:
        """Return the publisher that the SFU has for a client."""
        found = [
            publisher
            for key, publisher in self.mcu.publishers.items()
            if (key.publisher, key.stream_type) == (client.sessionid, stream_type)
        ]
        return found[0] if found else None


class FakeClient:
    """A client that sends messages to the dispatcher and reads the messages that its connection wrote."""

    def __init__(self, harness: FlowHarness, connection: FakeConnection) -> None:
        self.harness = harness
        self.connection = connection
        self.sessionid = ""
        self.resumeid = ""
        self._read = 0
        self.client_connection: ClientConnection = harness.dispatch.connection_opened(connection)

    @property
    def session(self) -> Session:
        """The client's session in the core."""
        return self.harness.hub.sessions[SessionId(self.sessionid)]

    def send(self, message: Json | str) -> None:
        """Send a message."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.harness.dispatch.message_received(self.client_connection, text, len(text.encode(errors="surrogatepass")))

    def send_hello(self, userid: str = "", *, url: str = CLOUD.urls[0], **members: Any) -> None:
        """Send a hello 1.0 of a user, or of a guest if the user id is empty; ``members`` are further ones of it."""
        auth = {"url": url, "params": self.harness.nextcloud.ticket(userid)}
        self.send({"id": "hello", "type": "hello", "hello": {"version": "1.0", "auth": auth, **members}})

    async def read_hello_reply(self) -> None:
        """Read the messages up to the reply to a hello, and store its ids."""
        await settle()
        reply = self.received()[-1]
        assert reply["type"] == "hello", reply
        self.sessionid, self.resumeid = reply["hello"]["sessionid"], reply["hello"]["resumeid"]

    def join(self, room: str = "r", nc: str = "", *, id: str = "join") -> None:
        """Request to join a room; ``nc`` is the Nextcloud session id."""
        self.send({"id": id, "type": "room", "room": {"roomid": room, **({"sessionid": nc} if nc else {})}})

    def leave(self, *, id: str = "leave") -> None:
        """Request to leave the room."""
        self.join("", id=id)

    def send_internal(self, type: str, /, *, id: str = "", **body: Any) -> None:
        """Send a message of an internal client."""
        self.send({"id": id, "type": "internal", "internal": {"type": type, type: body}})

    def send_message(self, to: FakeClient | Json, data: Any, id: str = "") -> None:
        """Send a ``message`` to another client or to any recipient."""
        recipient = {"type": "session", "sessionid": to.sessionid} if isinstance(to, FakeClient) else to
        self.send({"id": id, "type": "message", "message": {"recipient": recipient, "data": data}})

    def offer(self, connection: str = "one", *, sid: str = "1", to: FakeClient | None = None, **fields: Any) -> None:
        """Send an offer; ``media`` names its sections, other ``fields`` become members of ``data``."""
        sdp = offer(connection, fields.pop("media", ("audio", "video")), fields.pop("candidates", ()))
        payload = {"type": "offer", "sdp": sdp}
        data = {"type": "offer", "roomType": "video", "sid": sid, "payload": payload, **fields}
        self.send_message(to or self, data, id="offer")

    def media(self, to: FakeClient, type: str, *, id: str = "media", room_type: str = "video", **fields: Any) -> None:
        """Send a media message about a stream of ``to``."""
        self.send_message(to, {"type": type, "roomType": room_type, **fields}, id=id)

    def received(self) -> list[Json]:
        """Return the messages that were received since the last call."""
        new = self.connection.written[self._read :]
        self._read = len(self.connection.written)
        return [json.loads(message) for message in new]

    def error_codes(self, *, among_others: bool = False) -> list[str]:
        """Return the codes of the errors received since the last call.

        Unless ``among_others``, check that no other message was received.
        """
        messages = self.received()
        errors = [message for message in messages if message["type"] == "error"]
        assert among_others or errors == messages, messages
        return [message["error"]["code"] for message in errors]

    def data(self) -> list[Json]:
        """Return the ``data`` of the messages received since the last call; check that nothing else was received."""
        messages = self.received()
        assert all(message["type"] == "message" for message in messages), messages
        return [message["message"]["data"] for message in messages]

    def disconnect(self) -> None:
        """Break the connection."""
        self.connection.lose()
        self.harness.dispatch.connection_closed(self.client_connection)
