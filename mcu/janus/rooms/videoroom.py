"""Requests and error codes of Janus' VideoRoom plugin (VideoRoom plugin documentation; docs/janus.md).

One room for each published stream, with one publisher: feed 1 is a camera, feed 2 a screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mcu.base import McuError, McuLost, MediaSelection, NoSuchStream, PublishOptions, Rejected, StreamType
from mcu.janus.connection.messages import NO_SUCH_HANDLE, JanusError
from sdp.payloads import canonical

FEEDS = {StreamType.VIDEO: 1, StreamType.SCREEN: 2}
AUDIO_CODECS = ("opus", "g722", "pcmu", "pcma")  # the default order; browsers send no other codec that Janus knows
VIDEO_CODECS = ("vp8", "h264", "vp9", "av1", "h265")
MAX_CODECS = 5  # Janus accepts no more; it refuses the room for one unknown name (430)

MISSING_ELEMENT = 429  # of ``create``: Janus requires an admin_key
INVALID_ELEMENT = 430
UNAUTHORIZED = 433  # of ``create``: Janus has another admin_key
NO_SUCH_ROOM = 426  # or the publisher has left it
ROOM_EXISTS = 427
NO_SUCH_FEED = 428  # also a publisher whose DTLS is not up

VP9_PROFILE = re.compile(r"[0-3]")
H264_PROFILE = re.compile(r"[0-9a-fA-F]{6}")

KEYFRAME_REQUEST = {"request": "configure", "keyframe": True}  # on a publisher's handle: to its client
OFFER_REQUEST = {"request": "configure", "update": True}  # on a subscriber's handle: Janus makes a new offer


def create(room: int, description: str, options: PublishOptions, admin_key: str) -> dict[str, Any]:
    """Return the request that creates the room of a stream; ``description`` is its label."""
    body: dict[str, Any] = {
        "request": "create",
        "room": room,
        "description": description,
        "is_private": bool(admin_key),  # without the key a private room could not be listed by ``sweep``
        "publishers": 1,
        "videoorient_ext": False,  # with it Firefox shows rotated pictures
        "audiocodec": codec_list(options.audiocodecs, AUDIO_CODECS),
        "videocodec": codec_list(options.videocodecs, VIDEO_CODECS),
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


def codec_list(preferred: Sequence[str], known: Sequence[str]) -> str:
    """Return the codec list for Janus: the preferred codecs that are known, then the other known ones."""
    names = (canonical(name.lower()) for name in preferred)
    wanted = dict.fromkeys(name for name in names if name in known)
    return ",".join([*wanted, *(name for name in known if name not in wanted)][:MAX_CODECS])


def list_rooms(admin_key: str) -> dict[str, Any]:
    """Return the request for all rooms; private ones are listed only with the ``admin_key``."""
    return {"request": "list"} | ({"admin_key": admin_key} if admin_key else {})


def destroy(room: int) -> dict[str, Any]:
    """Return the request that destroys a room."""
    return {"request": "destroy", "room": room}


def list_participants(room: int) -> dict[str, Any]:
    """Return the request for the publishers of a room and the states of their PeerConnections."""
    return {"request": "listparticipants", "room": room}


def join_publisher(room: int, feed: int) -> dict[str, Any]:
    """Return the request with which the publisher joins its room."""
    return {"request": "join", "ptype": "publisher", "room": room, "id": feed}


def configure_publisher() -> dict[str, Any]:
    """Return the request that is sent with a publisher's offer."""
    return {"request": "configure", "audio": True, "video": True, "data": True}


def limit_bitrate(bits_per_second: int) -> dict[str, Any]:
    """Return the request that caps a publisher's bit rate."""
    return {"request": "configure", "bitrate": bits_per_second}


def join_subscriber(room: int, feed: int) -> dict[str, Any]:
    """Return the request that subscribes to all media of a feed."""
    return {"request": "join", "ptype": "subscriber", "room": room, "streams": [{"feed": feed}]}


def start(room: int) -> dict[str, Any]:
    """Return the request that is sent with a subscriber's answer."""
    return {"request": "start", "room": room}


def subscribe(feed: int, mids: Iterable[str]) -> dict[str, Any]:
    """Return the request that subscribes to further m-lines of a feed."""
    return {"request": "subscribe", "streams": [{"feed": feed, "mid": mid} for mid in mids]}


def requests_offer(body: Mapping[str, Any]) -> bool:
    """Return whether a request of a subscriber's handle is answered by an offer: ``subscribe`` or ``OFFER_REQUEST``."""
    return body.get("request") == "subscribe" or bool(body.get("update"))


def configure_subscriber(selection: MediaSelection) -> dict[str, Any]:
    """Return the request that selects layers and media; if nothing is selected, its only member is ``request``."""
    selected = {
        "substream": selection.substream,
        "temporal": selection.temporal,
        "audio": selection.audio,
        "video": selection.video,
    }
    return {"request": "configure"} | {name: value for name, value in selected.items() if value is not None}


def remove_remote_publisher(room: int, feed: int) -> dict[str, Any]:
    """Return the request that ends a feed that another Janus sends."""
    return {"request": "remove_remote_publisher", "room": room, "id": feed}


def reason_refused(error: JanusError) -> str:
    """Return the reason for which Janus creates no rooms, in one sentence."""
    if error.code == MISSING_ELEMENT and "admin_key" in str(error):
        return (
            "VideoRoom of this Janus has an admin_key, and this gateway's configuration none: set"
            " mcu.janus.admin_key to the admin_key in janus.plugin.videoroom.jcfg"
        )
    if error.code == UNAUTHORIZED:
        return (
            "VideoRoom of this Janus has another admin_key than this gateway's configuration: compare"
            " mcu.janus.admin_key with the admin_key in janus.plugin.videoroom.jcfg"
        )
    if error.code == INVALID_ELEMENT and "room should be a string" in str(error):
        return "VideoRoom of this Janus has string_ids = true; this gateway needs numbers (string_ids = false)"
    return f"VideoRoom of this Janus creates no rooms: {error}"


def mcu_error(error: JanusError) -> McuError:
    """Convert an error of Janus to an error of the SFU interface."""
    if error.code in (NO_SUCH_ROOM, NO_SUCH_FEED):
        return NoSuchStream(str(error))
    if error.code == NO_SUCH_HANDLE:
        return McuLost(str(error))
    return Rejected(str(error))
