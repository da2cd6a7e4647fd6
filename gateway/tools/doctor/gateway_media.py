"""The step that sends media through the gateway and its SFU, whichever it is: as two internal clients.

Publisher and subscriber are PeerConnections of aiortc in this process. The gateway negotiates for them as for clients
in a call; internal clients need no room and no Nextcloud for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiortc import RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack
from aiortc.sdp import candidate_from_sdp

from gateway.tools.doctor import media
from gateway.tools.doctor.session import internal_params
from gateway.tools.doctor.steps import Outcome, failed, not_tried, ok
from gateway.tools.doctor.target import Target
from gateway.tools.talk_client import Json, RequestRefused, TalkClient

ANSWER_LIMIT = 15.0  # seconds for an answer or offer of the gateway
STREAM = {"roomType": "video", "sid": "doctor"}


class _MediaClient:
    """An internal client with one PeerConnection."""

    def __init__(self, client: TalkClient) -> None:
        self.client = client
        self.peer = media.new_peer()
        self.addresses: list[str] = []  # of the SFU's candidates
        self._adding: set[asyncio.Task[None]] = set()
        client.on_message = self._add_candidate

    async def request(self, recipient: str, data: Json, wanted: str) -> tuple[str, str]:
        """Send a media message, and return description and sid of the answer of type ``wanted``.

        Raises:
            RequestRefused: the gateway answers with an error.
            TimeoutError: it does not answer.
        """
        start = len(self.client.messages)
        await self.client.send_message(recipient, STREAM | data, request_id=wanted)
        reply = await self.client.wait_for(
            lambda message: message["type"] == "error" or _data(message).get("type") == wanted,
            since=start,
            limit=ANSWER_LIMIT,
        )
        if reply["type"] == "error":
            raise RequestRefused(reply["error"])
        sdp = str(_data(reply)["payload"]["sdp"])
        self.addresses += media.addresses_in(sdp)
        return sdp, str(_data(reply).get("sid", ""))

    def _add_candidate(self, message: Json) -> None:
        data = _data(message)
        if data.get("type") != "candidate":
            return
        body = data["payload"]["candidate"]
        if not body or not body.get("candidate"):
            return
        self.addresses += media.addresses_in(f"a={body['candidate']}")
        candidate = candidate_from_sdp(body["candidate"].removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = body.get("sdpMid"), body.get("sdpMLineIndex")
        task = asyncio.create_task(self.peer.addIceCandidate(candidate), name="doctor-candidate")
        self._adding.add(task)
        task.add_done_callback(self._adding.discard)


def _data(message: Json) -> dict[str, Any]:
    data = message.get("message", {}).get("data")
    return data if isinstance(data, dict) else {}


async def send_through_gateway(target: Target, secret: str, backend: str) -> Outcome:
    """Publish audio as one internal client, subscribe to it as another one, and count the frames that arrive."""
    if "mcu" not in target.header_features:
        return not_tried("an SFU: [mcu] of the gateway's configuration")
    try:
        async with (
            _media_client(target, secret, backend) as publisher,
            _media_client(target, secret, backend) as subscriber,
        ):
            return await _exchange(publisher, subscriber)
    except RequestRefused as error:
        change = "see the gateway's log and the step readiness: they name what the SFU lacks"
        return failed("the gateway carries out no request about a stream", change, str(error))
    except TimeoutError:
        change = "see the gateway's log: its SFU does not answer"
        return failed(f"an offer is not answered within {ANSWER_LIMIT:g} s", change)
    except (aiohttp.ClientError, OSError) as error:
        change = "see the logs of the reverse proxy and of the gateway"
        return failed("the WebSocket ends during the negotiation", change, type(error).__name__)


async def _exchange(publisher: _MediaClient, subscriber: _MediaClient) -> Outcome:
    own = publisher.client.session_id
    publisher.peer.addTransceiver(AudioStreamTrack(), direction="sendonly")
    await publisher.peer.setLocalDescription(await publisher.peer.createOffer())
    payload = {"type": "offer", "sdp": publisher.peer.localDescription.sdp}
    answer, _ = await publisher.request(own, {"type": "offer", "to": own, "payload": payload}, "answer")
    await publisher.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    if not await media.wait_connected(publisher.peer):
        return media.connection_failure("publisher", publisher.addresses)
    tracks: asyncio.Queue[MediaStreamTrack] = asyncio.Queue()
    subscriber.peer.on("track", tracks.put_nowait)
    offer, sid = await subscriber.request(own, {"type": "requestoffer"}, "offer")
    await subscriber.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await subscriber.peer.setLocalDescription(await subscriber.peer.createAnswer())
    payload = {"type": "answer", "sdp": subscriber.peer.localDescription.sdp}
    await subscriber.client.send_message(own, STREAM | {"type": "answer", "sid": sid, "to": own, "payload": payload})
    if not await media.wait_connected(subscriber.peer):
        return media.connection_failure("subscriber", subscriber.addresses)
    frames = await media.count_frames(tracks)
    packets = await media.packets_received(subscriber.peer)
    evidence = f"{frames} of {media.FRAMES} frames of audio arrived, in {packets} packets"
    if frames < media.FRAMES:
        change = "see the SFU's log; let firewalls pass packets of established UDP connections for longer than a moment"
        return failed("the connections are up, but media do not pass the SFU", change, evidence)
    return ok(f"two internal clients publish and subscribe through the gateway; {evidence}")


@asynccontextmanager
async def _media_client(target: Target, secret: str, backend: str) -> AsyncIterator[_MediaClient]:
    """Open a session with a PeerConnection, and end both afterwards."""
    async with TalkClient(target.url, backend) as client:
        await client.hello_internal(internal_params(secret, backend))
        made = _MediaClient(client)
        try:
            yield made
            await client.bye()
        finally:
            await made.peer.close()
