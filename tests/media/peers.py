"""aiortc peers that publish and receive media; every wait is for an event and has a timeout."""

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

from sdp.document import Description
from tests.media.signals import dominant_frequency, read_number, samples_of
from tests.media.tracks import NumberTrack, ToneTrack

WAIT = 60.0  # seconds, the timeout of each wait; a call is connected within one
_TONE_SAMPLES = 9600  # samples per measurement of a tone's frequency: 5 Hz resolution
_TOLERANCE = 15.0  # Hz

Message = tuple[str, str | bytes]  # label of the data channel and message


class MediaPeer:
    """One RTCPeerConnection, closed when its ``async with`` block ends."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._changed = asyncio.Event()
        self.pc.on("connectionstatechange", self._changed.set)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self.pc.close()

    def cut(self) -> None:
        """Close the sockets without ending the connection, as when a cable is pulled."""
        for transceiver in self.pc.getTransceivers():
            for protocol in transceiver.receiver.transport.transport._connection._protocols:
                protocol.transport.abort()

    async def until(self, condition: Callable[[], bool], description: str, limit: float = WAIT) -> None:
        """Wait until ``condition`` holds; it is checked after each event of this peer.

        Raises:
            AssertionError: the condition did not hold in time; the text has ``description``.
        """
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {limit} s: {description} ({self.state()})") from None

    def notify(self) -> None:
        """Have ``until`` check its condition, after an event that the peer does not receive itself."""
        self._changed.set()

    async def wait_until_connected(self, limit: float = WAIT) -> None:
        """Wait until media can flow."""
        await self.until(lambda: self.pc.connectionState == "connected", "a connection", limit)

    async def wait_until_ended(self, limit: float = WAIT) -> None:
        """Wait until the other side has ended the connection."""
        await self.until(lambda: self.pc.connectionState in ("closed", "failed"), "an end of the connection", limit)

    async def add_candidate(self, candidate: str, mid: str | None, index: int | None) -> None:
        """Add a remote candidate ("candidate:…"); an empty one is the end of candidates."""
        if not candidate:
            await self.pc.addIceCandidate(None)
            return
        parsed = candidate_from_sdp(candidate.removeprefix("candidate:"))
        parsed.sdpMid, parsed.sdpMLineIndex = mid, index
        await self.pc.addIceCandidate(parsed)

    def state(self) -> str:
        """Return this peer's state for the message of a failed wait."""
        return self.pc.connectionState


class PublishingPeer(MediaPeer):
    """A publisher of pictures that show ``number``, a tone of ``frequency`` Hz, and data channels.

    ``channels`` are the labels of the data channels; one that begins with "unordered" is unordered.
    ``video_codec`` is the only codec offered, for instance "video/H264"; empty: aiortc's choice.
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
            self.pc.addTransceiver(ToneTrack(frequency), direction="sendonly")
        if video:
            self.add_camera()
        for label in channels:
            channel = self.pc.createDataChannel(label, ordered=not label.startswith("unordered"))
            channel.on("open", self._changed.set)
            self.channels[label] = channel

    async def offer(self) -> str:
        """Return an offer that includes all candidates."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def accept(self, answer: str | Description) -> None:
        """Apply the answer to the last offer."""
        await self.pc.setRemoteDescription(RTCSessionDescription(str(answer), "answer"))

    def add_camera(self) -> None:
        """Add a video track; a new offer must follow."""
        transceiver = self.pc.addTransceiver(NumberTrack(self.number), direction="sendonly")
        if self._video_codec:
            capabilities = RTCRtpSender.getCapabilities("video").codecs
            wanted = [c for c in capabilities if c.mimeType in (self._video_codec, "video/rtx")]
            transceiver.setCodecPreferences(wanted)
        self._camera = transceiver

    def switch_camera(self, on: bool) -> None:
        """Start or stop sending video; a new offer must follow."""
        if self._camera is None:
            raise ValueError("the peer has no camera")
        self._camera.direction = "sendonly" if on else "inactive"

    async def send_message(self, label: str, message: str | bytes) -> None:
        """Send a message on a data channel, once it is open."""
        channel = self.channels[label]
        await self.until(lambda: channel.readyState == "open", f"an open channel {label!r}")
        channel.send(message)

    @property
    def video_bitrate(self) -> int | None:
        """The target bitrate of the video encoder in bit/s; ``None`` before the first picture."""
        if self._camera is None:
            return None
        encoder = self._camera.sender._RTCRtpSender__encoder  # type: ignore[attr-defined]  # aiortc has no public way
        bitrate: int | None = getattr(encoder, "target_bitrate", None)
        return bitrate


class SubscribingPeer(MediaPeer):
    """A receiver that records the numbers of decoded pictures, the frequencies of tones, and messages."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, int] = {}  # of the last decoded picture, by mid
        self.frames: dict[str, int] = {}  # decoded pictures, by mid
        self.tones: dict[str, float | None] = {}  # last frequency in Hz, by mid
        self.tone_count = 0  # measurements of a frequency, each of 0.2 s of audio
        self.messages: list[Message] = []
        self.channels: dict[str, RTCDataChannel] = {}  # opened by the other side, by label
        self._readers: set[asyncio.Task[None]] = set()
        self.pc.on("track", self._on_track)
        self.pc.on("datachannel", self._on_channel)

    async def answer(self, offer: str | Description) -> str:
        """Apply an offer and return the answer, which includes all candidates."""
        await self.pc.setRemoteDescription(RTCSessionDescription(str(offer), "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        return self.pc.localDescription.sdp

    async def wait_for_picture(self, number: int, limit: float = WAIT) -> None:
        """Wait until a picture with that number is decoded after this call."""
        self.numbers.clear()
        await self.until(lambda: number in self.numbers.values(), f"a picture with number {number}", limit)

    async def wait_for_tone(self, frequency: float, limit: float = WAIT) -> None:
        """Wait until a tone of that frequency is decoded after this call."""
        self.tones.clear()

        def tone_decoded() -> bool:
            return any(tone is not None and abs(tone - frequency) < _TOLERANCE for tone in self.tones.values())

        await self.until(tone_decoded, f"a tone of {frequency} Hz", limit)

    async def wait_for_message(self, label: str, message: str | bytes, limit: float = WAIT) -> None:
        """Wait until a message has been received on a data channel, before this call or after."""
        await self.until(lambda: (label, message) in self.messages, f"{message!r} on {label!r}", limit)

    async def close(self) -> None:
        """End the connection and stop decoding."""
        await super().close()
        for reader in self._readers:
            reader.cancel()
        if self._readers:
            await asyncio.wait(self._readers)

    def state(self) -> str:
        """Return this peer's state for the message of a failed wait."""
        return f"{self.pc.connectionState}, pictures {self.numbers}, frames {self.frames}, tones {self.tones}"

    def _on_track(self, track: MediaStreamTrack) -> None:
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
        samples = np.zeros(0)
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, AudioFrame):
                samples = np.concatenate((samples, samples_of(frame)))
                if len(samples) >= _TONE_SAMPLES:
                    self.tone_count += 1
                    self.tones[self._mid(track)] = dominant_frequency(samples[:_TONE_SAMPLES], frame.sample_rate)
                    samples = samples[_TONE_SAMPLES:]
                    self._changed.set()

    def _on_channel(self, channel: RTCDataChannel) -> None:
        self.channels[channel.label] = channel

        def on_message(message: str | bytes) -> None:
            self.messages.append((channel.label, message))
            self._changed.set()

        channel.on("message", on_message)
        self._changed.set()
