"""VideoRoom's requests and refusals, and the rooms that we own (VideoRoom plugin documentation; docs/janus.md).

One room for each published stream, with the publisher as its only one: feed 1 is a camera, feed 2 a screen.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from mcu.base import McuError, McuLost, MediaSelection, NoSuchStream, PublishOptions, Rejected, StreamKey, StreamType
from mcu.janus.connection.protocol import NO_SUCH_HANDLE, NO_SUCH_SESSION, JanusError, JanusMessage, failure
from mcu.janus.connection.session import Interrupted, JanusSession, Reply
from mcu.janus.labels import label
from sdp.payloads import canonical

FEEDS = {StreamType.VIDEO: 1, StreamType.SCREEN: 2}
AUDIO_CODECS = ("opus", "g722", "pcmu", "pcma")  # the default order; what else Janus knows no browser sends
VIDEO_CODECS = ("vp8", "h264", "vp9", "av1", "h265")
MOST_CODECS = 5  # Janus takes no more; one name that it does not know makes it refuse the room (430)

NO_SUCH_ROOM = 426  # or the publisher has left it
ROOM_EXISTS = 427
NO_SUCH_FEED = 428  # also a publisher whose DTLS is not up

VP9_PROFILE = re.compile(r"[0-3]")
H264_PROFILE = re.compile(r"[0-9a-fA-F]{6}")


def room(description: str, number: int, options: PublishOptions, admin_key: str) -> dict[str, Any]:
    """Return the request that creates the room of a stream; ``description`` is its label."""
    body: dict[str, Any] = {
        "request": "create",
        "room": number,
        "description": description,
        "is_private": bool(admin_key),  # without the key a private room could not be found again (``sweep``)
        "publishers": 1,
        "videoorient_ext": False,  # with it Firefox shows rotated pictures
        "audiocodec": codecs(options.audiocodecs, AUDIO_CODECS),
        "videocodec": codecs(options.videocodecs, VIDEO_CODECS),
    }
    if options.bitrate > 0:
        body["bitrate"] = options.bitrate
    if VP9_PROFILE.fullmatch(options.vp9profile):
        body["vp9_profile"] = options.vp9profile
    if H264_PROFILE.fullmatch(options.h264profile):
        body["h264_profile"] = options.h264profile.lower()
    if admin_key:
        body["admin_key"] = admin_key
    return body


def codecs(preferred: Sequence[str], known: Sequence[str]) -> str:
    """Return Janus' list of codecs: what is preferred and known first, then the rest."""
    names = (canonical(name.lower()) for name in preferred)
    wanted = dict.fromkeys(name for name in names if name in known)
    return ",".join([*wanted, *(name for name in known if name not in wanted)][:MOST_CODECS])


def participants(number: int) -> dict[str, Any]:
    """Return the request for who is in a room, and whether their connections are up."""
    return {"request": "listparticipants", "room": number}


def join_publisher(number: int, feed: int) -> dict[str, Any]:
    """Return the request of the room's publisher to enter."""
    return {"request": "join", "ptype": "publisher", "room": number, "id": feed}


def configure_publisher() -> dict[str, Any]:
    """Return what goes with a publisher's offer."""
    return {"request": "configure", "audio": True, "video": True, "data": True}


def join_subscriber(number: int, feed: int) -> dict[str, Any]:
    """Return the request for all that a feed has."""
    return {"request": "join", "ptype": "subscriber", "room": number, "streams": [{"feed": feed}]}


def remove_remote(number: int, feed: int) -> dict[str, Any]:
    """Return the request that ends a feed that comes from another Janus."""
    return {"request": "remove_remote_publisher", "room": number, "id": feed}


def subscribe(feed: int, mids: Iterable[str]) -> dict[str, Any]:
    """Return the request for further m-lines of a feed."""
    return {"request": "subscribe", "streams": [{"feed": feed, "mid": mid} for mid in mids]}


def select(layer: MediaSelection) -> dict[str, Any]:
    """Return the request for a layer; with one member if nothing is chosen."""
    chosen = {
        "substream": layer.substream,
        "temporal": layer.temporal,
        "audio": layer.audio,
        "video": layer.video,
    }
    return {"request": "configure"} | {name: value for name, value in chosen.items() if value is not None}


def typed(error: JanusError) -> McuError:
    """Turn a refusal into an error of the SFU interface."""
    if error.code in (NO_SUCH_ROOM, NO_SUCH_FEED):
        return NoSuchStream(str(error))
    if error.code == NO_SUCH_HANDLE:
        return McuLost(str(error))
    return Rejected(str(error))


class RoomRegistry:
    """The rooms that we made, or tried to make, and have not seen destroyed.

    A room outlives the session that made it. The number is ours, not Janus' choice: so a room whose creation was never
    answered can be destroyed as well, over the next session. ``instance`` says whose they are (``mcu.janus.labels``);
    ``everywhere`` has the rooms of all that carry it in this process, because two of them may be on one Janus: where it
    is configured under two addresses, or was under another one until the last reload.
    """

    def __init__(self, admin_key: str, instance: str, everywhere: set[int] | None = None) -> None:
        self.admin_key = admin_key
        self.instance = instance
        self._everywhere = set() if everywhere is None else everywhere
        self._owned: dict[int, JanusSession] = {}  # somebody has it, or makes it, over that session
        self._unwanted: set[int] = set()
        self._remote: dict[int, int] = {}  # by room the feed that comes from another Janus

    def __len__(self) -> int:
        return len(self.all())

    async def create(
        self, session: JanusSession, key: StreamKey, options: PublishOptions, *, remote: bool = False
    ) -> int:
        """Create the room of a stream and return its number. Cancelled, it leaves none.

        ``remote``: the stream comes from another Janus.

        Raises:
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        while True:
            number = secrets.randbits(52) + 1  # Janus' ids are below 2^53
            self.own(number, session)
            if remote:
                self._remote[number] = FEEDS[key.stream_type]

            def undo(_: JanusMessage, made: int = number) -> None:
                self.destroy(session, made)

            body = room(label(self.instance, key, remote=remote), number, options, self.admin_key)
            try:
                await session.request("message", undo=undo, handle_id=session.control.id, body=body)
            except Interrupted:  # it may be there
                self.destroy(session, number)
            except JanusError as error:
                del self._owned[number]
                self._forget(number)
                if error.code != ROOM_EXISTS:
                    raise
            except BaseException:
                self._unwant(number)
                raise
            else:
                return number

    def own(self, number: int, session: JanusSession) -> None:
        """Note, before it is made, that a room belongs to somebody, until ``destroy`` or the end of the session."""
        self._owned[number] = session
        self._everywhere.add(number)

    def destroy(self, session: JanusSession, number: int, feed: int = 0) -> Reply:
        """Destroy a room at once; the future is done when Janus has done it.

        ``feed``: of a room that an earlier process made for a copy. Such a feed has no handle that ends it: destroying
        the room alone would leave its ports and its thread.
        """
        self._unwant(number)
        feed = feed or self._remote.get(number, 0)
        if not feed:
            return self._destroy(session, number)
        destroyed: Reply = asyncio.get_running_loop().create_future()

        def removed(_: Reply) -> None:  # Janus does not work on requests in their order
            self._destroy(session, number).add_done_callback(lambda done: destroyed.set_result(done.result()))

        body = remove_remote(number, feed)
        session.post("message", handle_id=session.control.id, body=body).add_done_callback(removed)
        return destroyed

    def _destroy(self, session: JanusSession, number: int) -> Reply:
        reply = session.post("message", handle_id=session.control.id, body={"request": "destroy", "room": number})
        reply.add_done_callback(lambda done: self._destroyed(number, done.result()))
        return reply

    def _unwant(self, number: int) -> None:
        self._owned.pop(number, None)
        self._unwanted.add(number)

    def _destroyed(self, number: int, message: JanusMessage | None) -> None:
        error = None if message is None else failure(message)
        if message is not None and (error is None or error.code not in (NO_SUCH_SESSION, NO_SUCH_HANDLE)):
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._unwanted.discard(number)
        self._remote.pop(number, None)
        self._everywhere.discard(number)

    def removed(self, number: int) -> None:
        """Learn that the feed that came from another Janus has left a room."""
        self._remote.pop(number, None)

    def all(self) -> list[int]:
        """Return the rooms that may be there."""
        return [*self._owned, *self._unwanted]

    def owned(self, number: int) -> bool:
        """Tell whether a room belongs to a stream, or to one that is about to be published."""
        return number in self._owned and not self._owned[number].lost

    def of_another(self, number: int) -> bool:
        """Tell whether a room is in the care of another ``RoomRegistry`` of this process."""
        return number in self._everywhere and number not in self._owned and number not in self._unwanted

    def release(self) -> None:
        """Leave what may be there to whoever finds it."""
        self._everywhere.difference_update(self.all())

    def left(self) -> set[int]:
        """Return the rooms that may be there and belong to nobody any more."""
        return self._unwanted | {number for number, session in self._owned.items() if session.lost}

    def gone(self, number: int) -> None:
        """Note that Janus has no such room any more."""
        if not self.owned(number):
            self._owned.pop(number, None)
            self._forget(number)
