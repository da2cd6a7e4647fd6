"""A published stream on Janus: a room of its own with one publisher handle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, ClassVar

from mcu.base import (
    CloseReason,
    MediaKind,
    NewConnectionRequired,
    PublishOptions,
    Rejected,
    StreamKey,
    StreamListener,
    TransportState,
)
from mcu.janus.connection.messages import HandleInfo, JanusMessage, error_of
from mcu.janus.connection.session import JanusSession
from mcu.janus.rooms import videoroom
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.streams.descriptions import (
    SerialisedOffer,
    active_media,
    is_firefox,
    parse_and_freeze,
    rid_order,
    simulcast_layers,
    single_layer,
)
from mcu.janus.streams.handle_peer import HandlePeer
from mcu.janus.streams.layer_order import LayerOrder, LayerRates
from mcu.janus.streams.room_feed import RoomFeed
from sdp.document import Description
from sdp.mending import mend
from sdp.offer_answer import transport_mid

if TYPE_CHECKING:
    from mcu.janus.streams.remote import RemoteStream

KIND_OF_TYPE = {kind.value: kind for kind in MediaKind}
# With 0, "no limit", Janus would send no further REMB, and the client would keep to the last one.
UNLIMITED = 100_000_000  # bit/s
LONG_ANSWER = 16_384  # characters; the gateway checks a longer one in another loop iteration (some ms each)
# m-lines of an offer. Janus adds them one by one to a table that the handle's timers read without a lock; 1.1.2 crashed
# once (SIGSEGV in a timer) in about 200 offers of 128 m-lines. A browser's offer has three.
MAX_SECTIONS = 16
CONNECT_TIMEOUT = 30.0  # seconds; Janus closes a PeerConnection that is not up after 22


class JanusPublisher(HandlePeer):
    """A stream that a client publishes: a room with this handle as its publisher.

    ``on_change`` is called when the PeerConnection is up, and when the stream has ended.
    """

    IS_SUBSCRIBER = False

    def __init__(
        self,
        session: JanusSession,
        key: StreamKey,
        listener: StreamListener,
        timeout: float,
        ceiling: int,
        rooms: RoomRegistry,
        on_change: Callable[[JanusPublisher], None],
        *,
        simulcast: Set[str],
    ) -> None:
        """Create a publisher; ``open`` publishes. ``simulcast``: the codecs whose layers this Janus tells apart.

        ``ceiling``: bit/s, 0 = no limit.
        """
        super().__init__(session, key, listener, timeout)
        self.feed = RoomFeed(session, key, videoroom.FEEDS[key.stream_type], self)
        self.rooms = rooms
        self.offer_sent = False  # whether Janus was sent the first offer
        self.remotes: set[RemoteStream] = set()  # copies on other Janus servers
        self.offer: Description | None = None  # the last answered offer
        self._answer: Description | None = None  # the last answer, as sent to the client
        self.layers: LayerOrder | None = None  # the order of the simulcast layers; None: no simulcast
        self.layers_mid = ""  # the m-line of ``layers``
        self._ceiling = ceiling
        self._simulcast = simulcast
        self._videocodecs: list[str] = []  # of the room, in Janus' order
        self._on_change = on_change
        self._received: dict[tuple[MediaKind, str], bool] = {}  # by kind and mid: whether Janus receives media

    async def open(self, offer: SerialisedOffer, options: PublishOptions) -> Description:
        """Create the room, join it, negotiate and return the answer; a failed call leaves nothing on Janus.

        Raises as ``negotiate`` does, and ``Rejected`` if Janus accepts no section.
        """
        await self.attach()
        try:
            self._videocodecs = videoroom.codec_list(options.videocodecs, videoroom.VIDEO_CODECS).split(",")
            self.feed.room = await self.rooms.create(self.session, self.key, options)
            await self.handle.request(videoroom.join_publisher(self.feed.room, self.feed.id))
            answer = await self.negotiate(offer)
            if not _uses_transport(answer):  # Janus' PeerConnection would never come up
                raise Rejected("the offer has no medium that Janus can forward")
        except BaseException:
            self.end(None)
            raise
        return answer

    async def negotiate(self, offer: SerialisedOffer) -> Description:
        """Send an offer to Janus and return the answer, corrected; added media are offered to the subscribers.

        Raises:
            Rejected: the offer has too many sections, or Janus sent no answer, or not a session description.
            JanusError: Janus refused.
            RequestInterrupted: the answer may have been lost with a connection.
            McuLost: the session is lost.
        """
        if len(offer.description.media) > MAX_SECTIONS:
            raise Rejected(f"the offer has more than {MAX_SECTIONS} media sections")
        self.offer_sent = True
        single = single_layer(offer.description, self._videocodecs, self._simulcast)
        sent = offer if single is None else SerialisedOffer.of(single, self.offer)
        order = rid_order(sent.description)
        message = await self.handle.request(videoroom.configure_publisher(), sent.text, rid_order=order)
        if message.jsep is None:
            raise Rejected("Janus gave no answer to the offer")
        answer = parse_and_freeze(message.jsep.sdp)
        self.offer = offer.description
        corrected = answer.copy()
        mend(offer.description, corrected)
        self._answer = corrected.freeze()
        self._set_layers(sent.description, answer)
        self._on_answer(answer)
        if len(message.jsep.sdp) > LONG_ANSWER:
            await asyncio.sleep(0)
        return corrected

    def _set_layers(self, offer: Description, answer: Description) -> None:
        """Begin with a new order of layers if the m-line with simulcast is another one than before."""
        found = simulcast_layers(offer, answer)
        if found is None:
            self.layers, self.layers_mid = None, ""
        elif self.layers is None or found != (self.layers_mid, self.layers.count):
            self.layers_mid, count = found
            self.layers = LayerOrder(count)
            self._apply_layer_order()

    def on_layer_rates(self, measurement: LayerRates) -> None:
        """Apply a measurement of the simulcast layers; where it changes their order, Janus sends other layers."""
        if self.layers is not None and not self.closed and self.layers.observe(measurement):
            self.session.log.debug("a publisher's simulcast layers are selected by their bit rates from now on")
            self._apply_layer_order()

    def _apply_layer_order(self) -> None:
        for feed in (self.feed, *(remote.feed for remote in self.remotes)):
            feed.apply_layer_order()

    def _on_answer(self, answer: Description) -> None:
        self.description = answer
        self.feed.set_media(active_media(answer))
        for remote in list(self.remotes):
            remote.update()

    async def update(self, offer: Description) -> Description:
        """Renegotiate; added media are offered to the subscribers. Raises as ``mcu.base.Publisher.update``."""
        self._require_same_transport(offer)
        serialised_offer = SerialisedOffer.of(offer, self.offer)
        async with self.exclusive_handle():
            return await self.negotiate(serialised_offer)

    def _require_same_transport(self, offer: Description) -> None:
        """Refuse an offer with which the browser ends its transport: Janus would hang up.

        Only a new PeerConnection of Janus, with other credentials, could take the browser's next transport. Chromium
        accepts them; Firefox does not, and changes its transport in more cases.

        Raises:
            NewConnectionRequired: the client accepts other credentials.
            Rejected: the client does not.
        """
        if self._answer is None or not _uses_transport(offer):
            return
        if not _uses_transport(self._answer):
            raise NewConnectionRequired("the client ended the transport with its last section")
        if transport_mid(offer) == transport_mid(self._answer):
            return
        if is_firefox(offer):
            raise Rejected("the client would change its transport, which Janus cannot follow")
        raise NewConnectionRequired("the offer begins another transport")

    async def limit(self, bits_per_second: int) -> None:
        """Cap the publisher's bit rate, by REMB; 0 lifts the cap, up to the stream's ceiling."""
        ceiling = self._ceiling or UNLIMITED
        cap = min(bits_per_second, ceiling) if bits_per_second > 0 else ceiling
        async with self.exclusive_handle() as handle:
            await handle.request(videoroom.limit_bitrate(cap))

    async def request_keyframe(self) -> None:
        """Request a keyframe from the publisher."""
        async with self.exclusive_handle() as handle:
            await handle.request(videoroom.KEYFRAME_REQUEST)

    def send_keyframe_request(self) -> None:
        """Request a keyframe from the publisher, without waiting."""
        if not self.closed:
            self.handle.send(videoroom.KEYFRAME_REQUEST)

    def on_unsubscribed(self) -> None:
        """Do nothing: a publisher goes on without subscribers."""

    def replace(self) -> None:
        """End in favour of a new publisher: the listener gets no reason, the subscribers' listeners get REPLACED."""
        self._end(None, CloseReason.REPLACED)

    def end(self, reason: CloseReason | None) -> None:
        """End the stream; subscribers' listeners get PUBLISHER_GONE, or LOST where Janus is lost. Idempotent."""
        self._end(reason, reason if reason is CloseReason.LOST else CloseReason.PUBLISHER_GONE)

    def _end(self, reason: CloseReason | None, subscribers_reason: CloseReason) -> None:
        if self.closed:
            return
        super().end(reason)
        self._set_connected(connected=False)
        self.closing += self.feed.end(subscribers_reason)
        if self.feed.room:
            self._destroy_room_when_empty()
        for remote in list(self.remotes):
            remote.end(subscribers_reason)
            self.closing += remote.closing

    def _destroy_room_when_empty(self) -> None:
        """Destroy the room after Janus has detached all its handles: at the same time, Janus 1.1.2 would crash."""
        destroyed = asyncio.get_running_loop().create_future()

        def destroy(_: object) -> None:
            answer = self.rooms.destroy(self.session, self.feed.room)
            answer.add_done_callback(lambda _: destroyed.set_result(None))

        asyncio.gather(*self.closing).add_done_callback(destroy)
        self.closing.append(destroyed)

    def _on_plugin_event(self, message: JanusMessage) -> None:
        if message.jsep is not None:  # the answer to an offer whose update() was cancelled
            self._on_answer(parse_and_freeze(message.jsep.sdp))

    def _on_webrtcup(self, _: JanusMessage) -> None:
        self._set_connected(connected=True)

    def _on_media_event(self, message: JanusMessage) -> None:
        self._on_media(message.type, message.mid, receiving=message.receiving)

    _EVENT_HANDLERS: ClassVar = {
        **HandlePeer._EVENT_HANDLERS,
        "webrtcup": _on_webrtcup,
        "media": _on_media_event,
    }

    def on_claimed(self) -> None:
        """Ask Janus whether the PeerConnection came up or was hung up while the connection was broken."""
        if self.feed.room:  # otherwise ``open`` is still running
            body = videoroom.list_participants(self.feed.room)
            answer = self.session.post("message", handle_id=self.session.control.id, body=body)
            answer.add_done_callback(lambda done: self._on_participants(done.result()))

    def _on_participants(self, message: JanusMessage | None) -> None:
        if message is None or self.closed:
            return
        error = error_of(message)
        if error is not None:
            self.session.log.info("a room has changed while the connection to Janus was broken: %s", error)
            if error.code == videoroom.NO_SUCH_ROOM:
                self.end(CloseReason.FAILED)
            return
        listed = message.plugindata.data.participants
        up = any(participant.publisher for participant in listed if participant.id == self.feed.id)
        if up and not self.connected:
            self._set_connected(connected=True)
            for mid, kind in self.feed.media.items():  # if Janus receives no media, it reports that again later
                self._on_media(kind.value, mid, receiving=True)
        elif self.connected and not up:
            self.end(CloseReason.FAILED)
        elif not up:  # the event of its failure may have been lost
            asyncio.get_running_loop().call_later(CONNECT_TIMEOUT, self._end_unless_connected)

    def _end_unless_connected(self) -> None:
        if not self.connected:
            self.end(CloseReason.FAILED)

    def on_handle_info(self, info: HandleInfo) -> None:
        """Apply the Admin API's report: whether the PeerConnection was hung up, and which media Janus receives."""
        super().on_handle_info(info)
        for medium in info.webrtc.media.values():
            if medium.stats.incoming.bytes_lastsec > 0:
                self._on_media(medium.type, medium.mid, receiving=True)

    def _on_media(self, type: str, mid: str, *, receiving: bool) -> None:
        kind = KIND_OF_TYPE.get(type)
        if kind is None:
            return
        before = kind in self.received_media
        self._received[kind, mid] = receiving
        after = kind in self.received_media
        if before != after:
            self.gate.send(lambda listener: listener.on_media(kind, after))

    @property
    def received_media(self) -> set[MediaKind]:
        """The media kinds that Janus receives now."""
        return {kind for (kind, _), receiving in self._received.items() if receiving}

    def _set_connected(self, connected: bool) -> None:
        self.connected = connected
        self.feed.revision += 1
        self._on_change(self)
        if connected:
            self._on_transport(TransportState.CONNECTED)


def _uses_transport(description: Description) -> bool:
    """Return whether a section is not rejected."""
    return any(not section.rejected for section in description.media)
