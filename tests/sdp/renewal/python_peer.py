"""An aiortc peer that creates offers and answers, and publishes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioice.ice
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from tests.sdp.renewal.session_description import SessionDescription

CONFIGURATION = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
OFFERS = {
    "camera": ("audio", "video", "data"),
    "audio-only": ("audio",),
    "video-only": ("video",),
    "data-only": ("data",),
    "receive-only": ("receive audio", "receive video"),
}


def stay_on_loopback() -> None:
    """Make aioice gather 127.0.0.1, which it leaves out, and no other address; for this process."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


def add(pc: RTCPeerConnection, part: str) -> None:
    """Add a track, a data channel or a receiving transceiver."""
    match part:
        case "audio":
            pc.addTrack(AudioStreamTrack())
        case "video":
            pc.addTrack(VideoStreamTrack())
        case "data":
            pc.createDataChannel("status")
        case _:
            pc.addTransceiver(part.removeprefix("receive "), direction="recvonly")


async def offer(pc: RTCPeerConnection, *parts: str) -> SessionDescription:
    """Add media and return the offer, candidates included."""
    for part in parts:
        add(pc, part)
    await pc.setLocalDescription(await pc.createOffer())
    return SessionDescription("offer", pc.localDescription.sdp)


async def answer(pc: RTCPeerConnection, to: SessionDescription) -> SessionDescription:
    """Return the answer to an offer, candidates included."""
    await set_remote(pc, to)
    await pc.setLocalDescription(await pc.createAnswer())
    return SessionDescription("answer", pc.localDescription.sdp)


async def set_remote(pc: RTCPeerConnection, description: SessionDescription) -> None:
    """Set the remote description."""
    await pc.setRemoteDescription(RTCSessionDescription(sdp=description.sdp, type=description.type))


@asynccontextmanager
async def peer() -> AsyncIterator[RTCPeerConnection]:
    """Open a PeerConnection and close it at the end."""
    pc = RTCPeerConnection(CONFIGURATION)
    try:
        yield pc
    finally:
        await pc.close()
