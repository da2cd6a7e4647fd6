"""aiortc peers that publish and watch; every wait is for an event and has a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from av import AudioFrame, VideoFrame

from tests.media.signals import dominant_frequency, read_number, samples_of
from tests.media.tracks import Picture, Tone

WAIT = 20.0  # seconds for anything that media must do; a call comes up within one
_LISTEN = 9600  # samples behind one reading of the tone: 5 Hz
_TOLERANCE = 15.0  # Hz

Message = tuple[str, str | bytes]  # label of the channel and what was said


class MediaPeer:
    """One RTCPeerConnection, closed when its ``async with`` block ends."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._changed = asyncio.Event()
        self.pc.on("connectionstatechange", self._changed.set)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self.pc.close()

    def cut(self) -> None:
        """Vanish without a word, as when a cable is pulled."""
        for transceiver in self.pc.getTransceivers():
            for protocol in transceiver.receiver.transport.transport._connection._protocols:
                protocol.transport.abort()

    async def until(self, condition: Callable[[], bool], what: str, limit: float = WAIT) -> None:
        """Wait until ``condition`` holds; it is looked at whenever something happened to this peer.

        Raises:
            AssertionError: it did not come to pass in time.
        """
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {limit} s: {what} ({self.state()})") from None

    def notice(self) -> None:
        """Look again at what is waited for; to be called when something happened that the peer does not know of."""
        self._changed.set()

    async def connected(self, limit: float = WAIT) -> None:
        """Wait until media can flow."""
        await self.until(lambda: self.pc.connectionState == "connected", "a connection", limit)

    async def ended(self, limit: float = WAIT) -> None:
        """Wait until the other side has ended the connection."""
        await self.until(lambda: self.pc.connectionState in ("closed", "failed"), "an end of the connection", limit)

    async def add_candidate(self, candidate: str, mid: str | None, index: int | None) -> None:
        """Take a candidate ("candidate:…") of the other side; an empty one ends the list."""
        if not candidate:
            await self.pc.addIceCandidate(None)
            return
        read = candidate_from_sdp(candidate.removeprefix("candidate:"))
        read.sdpMid, read.sdpMLineIndex = mid, index
        await self.pc.addIceCandidate(read)

    def state(self) -> str:
        """Return what a failed wait says of this peer."""
        return self.pc.connectionState


class PublishingPeer(MediaPeer):
    """Sends the picture of ``number``, a tone of ``frequency`` Hz, and what is said on its data channels.

    ``channels`` names the data channels to open; a label that begins with "unordered" opens an unordered one.
    ``video_codec`` offers that codec alone, for instance "video/H264".
    """

    def __init__(
        self,
        number: int,
        frequency: float,
        *,
        audio: bool = True,
        video: bool = True,
        channels: tuple[str, ...] = ("status",),
        video_codec: str = "",
    ) -> None:
        super().__init__()
        self.number = number
        self.frequency = frequency
        self._video_codec = video_codec
        self._camera: RTCRtpTransceiver | None = None
        self.channels: dict[str, RTCDataChannel] = {}
        if audio:
            self.pc.addTransceiver(Tone(frequency), direction="sendonly")
        if video:
            self.add_camera()
        for label in channels:
            channel = self.pc.createDataChannel(label, ordered=not label.startswith("unordered"))
            channel.on("open", self._changed.set)
            self.channels[label] = channel

    async def offer(self) -> str:
        """Return an offer with all candidates inside."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def accept(self, answer: str) -> None:
        """Take the answer to the last offer."""
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def add_camera(self) -> None:
        """Add the picture; offer again afterwards."""
        transceiver = self.pc.addTransceiver(Picture(self.number), direction="sendonly")
        if self._video_codec:
            capabilities = RTCRtpSender.getCapabilities("video").codecs
            wanted = [c for c in capabilities if c.mimeType in (self._video_codec, "video/rtx")]
            transceiver.setCodecPreferences(wanted)
        self._camera = transceiver

    def switch_camera(self, on: bool) -> None:
        """Send the picture or not; offer again afterwards."""
        if self._camera is None:
            raise ValueError("the peer has no camera")
        self._camera.direction = "sendonly" if on else "inactive"

    async def say(self, label: str, data: str | bytes) -> None:
        """Say something on a data channel, once it is open."""
        channel = self.channels[label]
        await self.until(lambda: channel.readyState == "open", f"an open channel {label!r}")
        channel.send(data)

    @property
    def video_bitrate(self) -> int | None:
        """The bit/s that the video encoder is set to, ``None`` before the first picture."""
        if self._camera is None:
            return None
        encoder = self._camera.sender._RTCRtpSender__encoder  # type: ignore[attr-defined]  # aiortc does not tell
        bitrate: int | None = getattr(encoder, "target_bitrate", None)
        return bitrate


class WatchingPeer(MediaPeer):
    """Receives and says whose picture and tone it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}  # shown last, by mid of the medium
        self.frames: dict[str, int] = {}  # decoded, by mid
        self.tones: dict[str, float | None] = {}  # heard last, in Hz, by mid
        self.messages: list[Message] = []
        self.labels: dict[str, RTCDataChannel] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self.pc.on("track", self._watch)
        self.pc.on("datachannel", self._listen)

    async def answer(self, offer: str) -> str:
        """Take an offer and return the answer, with all candidates inside."""
        await self.pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return self.pc.localDescription.sdp

    async def sees(self, number: int, limit: float = WAIT) -> None:
        """Wait for the picture of that number, decoded after this call."""
        self.numbers.clear()
        await self.until(lambda: number in self.numbers.values(), f"the picture of {number}", limit)

    async def hears(self, frequency: float, limit: float = WAIT) -> None:
        """Wait for that tone, decoded after this call."""
        self.tones.clear()

        def heard() -> bool:
            return any(tone is not None and abs(tone - frequency) < _TOLERANCE for tone in self.tones.values())

        await self.until(heard, f"a tone of {frequency} Hz", limit)

    async def reads(self, label: str, data: str | bytes, limit: float = WAIT) -> None:
        """Wait until that was said on that channel, now or before."""
        await self.until(lambda: (label, data) in self.messages, f"{data!r} on {label!r}", limit)

    async def close(self) -> None:
        """End the connection and stop reading."""
        await super().close()
        for reader in self._readers:
            reader.cancel()
        if self._readers:
            await asyncio.wait(self._readers)

    def state(self) -> str:
        """Return what a failed wait says of this peer."""
        return f"{self.pc.connectionState}, pictures {self.numbers}, frames {self.frames}, tones {self.tones}"

    def _watch(self, track: MediaStreamTrack) -> None:
        read = self._read_video if track.kind == "video" else self._read_audio
        self._readers.add(asyncio.create_task(read(track)))

    def _mid(self, track: MediaStreamTrack) -> str:
        for transceiver in self.pc.getTransceivers():
            if transceiver.receiver.track is track:
                return transceiver.mid or ""
        return ""

    async def _read_video(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                mid = self._mid(track)
                self.frames[mid] = self.frames.get(mid, 0) + 1
                number = read_number(frame)
                if number is not None:
                    self.numbers[mid] = number
                self._changed.set()

    async def _read_audio(self, track: MediaStreamTrack) -> None:
        gathered = np.zeros(0)
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, AudioFrame):
                gathered = np.concatenate((gathered, samples_of(frame)))
                if len(gathered) >= _LISTEN:
                    self.tones[self._mid(track)] = dominant_frequency(gathered[:_LISTEN], frame.sample_rate)
                    gathered = gathered[_LISTEN:]
                    self._changed.set()

    def _listen(self, channel: RTCDataChannel) -> None:
        self.labels[channel.label] = channel

        def heard(data: str | bytes) -> None:
            self.messages.append((channel.label, data))
            self._changed.set()

        channel.on("message", heard)
        self._changed.set()
