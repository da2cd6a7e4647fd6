"""Steps with media at one Janus: the candidates that it offers, and a publication with a subscriber.

Publisher and subscriber are PeerConnections of aiortc in this process, so that their packets take the network path of
clients on this machine. They do not use the gateway, so that a failure is one of Janus or the network.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack
from aiortc.sdp import candidate_from_sdp

from gateway.tools.doctor.janus import ExaminedJanus
from gateway.tools.doctor.steps import Outcome, failed, ok, warning
from gateway.tools.doctor.target import Target
from mcu.base import (
    BackendId,
    CloseReason,
    IceCandidate,
    McuError,
    MediaKind,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
    TransportState,
)
from mcu.janus.backend import JanusMcu
from sdp.document import Description, parse

CONNECT_LIMIT = 10.0  # seconds for ICE and DTLS
MEDIA_LIMIT = 5.0  # seconds until ``FRAMES`` have arrived
FRAMES = 25  # of audio, 20 ms each

_KEY = StreamKey(BackendId("doctor"), PublisherId("doctor"), StreamType.VIDEO)
_DOCKER_NETWORKS = ip_network("172.16.0.0/12")  # from which Docker takes its networks
_ADDRESS_REMEDY = (
    "give Janus the host's network, or set nat_1_1_mapping in janus.jcfg (PUBLIC_ADDRESS of janus-config/fill.py) to"
    " the address that clients reach"
)


class _CandidateListener:
    """Collects the candidates of Janus, as a stream listener, and adds them to a PeerConnection."""

    def __init__(self, peer: RTCPeerConnection) -> None:
        self.addresses: list[str] = []
        self._peer = peer
        self._adding: set[asyncio.Task[None]] = set()

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        if candidate is None or not candidate.candidate:
            return
        self.addresses.append(_address(candidate.candidate))
        parsed = candidate_from_sdp(candidate.candidate.removeprefix("candidate:"))
        parsed.sdpMid, parsed.sdpMLineIndex = candidate.sdp_mid, candidate.sdp_mline_index
        task = asyncio.create_task(self._peer.addIceCandidate(parsed), name="doctor-candidate")
        self._adding.add(task)
        task.add_done_callback(self._adding.discard)

    def on_offer(self, offer: Description) -> None:
        """Ignore the offer: these streams are not renegotiated."""

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Ignore the report: the received frames are counted instead."""

    def on_transport(self, state: TransportState) -> None:
        """Ignore the report: the state of the peer connection shows it."""

    def on_closed(self, reason: CloseReason) -> None:
        """Ignore the end: the state of the peer connection shows it."""

    def collect_addresses(self, description: Description) -> None:
        """Collect the addresses of the candidates in a description of Janus."""
        self.addresses += addresses_in(str(description))


def addresses_in(sdp: str) -> list[str]:
    """Return the addresses of the candidates in a description."""
    return [_address(line[2:]) for line in sdp.splitlines() if line.startswith("a=candidate:")]


def _address(candidate: str) -> str:
    return candidate.split()[4]  # RFC 8839, 5.1


async def check_candidates(janus: ExaminedJanus, target: Target, request_timeout: float) -> Outcome:
    """Publish, and check that Janus offers a public candidate if the signaling server has a public address."""
    try:
        async with _sfu(janus, request_timeout) as sfu, _publication(sfu, request_timeout) as (_, candidates):
            addresses = list(dict.fromkeys(candidates.addresses))
    except McuError as error:
        return _request_failure(error)
    evidence = f"Janus offers {', '.join(addresses) or 'no candidate'}"
    if not addresses:
        change = "set ice_enforce_list in janus.jcfg to an interface that is up, or remove it; see Janus' log"
        return failed("Janus offers no candidate", change, evidence)
    private = [address for address in addresses if not _is_global(address)]
    if len(private) == len(addresses) and any(map(_is_global, target.addresses)):
        scope = "of a container" if any(map(_is_of_container, private)) else "private"
        cause = f"clients cannot reach Janus: its addresses are {scope}, while {target.host} is public"
        return failed(cause, _ADDRESS_REMEDY, evidence)
    if all(map(_is_of_container, addresses)) and not any(map(_is_of_container, target.addresses)):
        cause = "clients on other machines do not reach Janus if its addresses are those of a container"
        return warning(cause, _ADDRESS_REMEDY, evidence)
    return ok(evidence)


async def send_and_receive(janus: ExaminedJanus, request_timeout: float) -> Outcome:
    """Publish audio, subscribe to it, and count the frames that arrive."""
    try:
        async with _sfu(janus, request_timeout) as sfu, _publication(sfu, request_timeout) as (peer, candidates):
            if not await wait_connected(peer):
                return connection_failure("publisher", candidates.addresses)
            return await _receive(sfu, request_timeout)
    except McuError as error:
        return _request_failure(error)


async def _receive(sfu: JanusMcu, request_timeout: float) -> Outcome:
    peer = new_peer()
    tracks: asyncio.Queue[MediaStreamTrack] = asyncio.Queue()
    peer.on("track", tracks.put_nowait)
    candidates = _CandidateListener(peer)
    subscriber, offer = await sfu.subscribe(_KEY, SubscribeOptions(timeout=request_timeout), candidates)
    try:
        candidates.collect_addresses(offer)
        await peer.setRemoteDescription(RTCSessionDescription(str(offer), "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        await subscriber.accept(parse(peer.localDescription.sdp).freeze())
        if not await wait_connected(peer):
            return connection_failure("subscriber", candidates.addresses)
        frames = await count_frames(tracks)
        packets = await packets_received(peer)
    finally:
        await subscriber.close()
        await peer.close()
    evidence = f"{frames} of {FRAMES} frames of audio arrived, in {packets} packets"
    if frames < FRAMES:
        change = "see Janus' log; let firewalls pass packets of established UDP connections for longer than a moment"
        return failed("the connections are up, but media do not pass Janus", change, evidence)
    return ok(f"a publisher and a subscriber are connected; {evidence}")


async def count_frames(tracks: asyncio.Queue[MediaStreamTrack]) -> int:
    """Count the frames of the first track, up to ``FRAMES``, for ``MEDIA_LIMIT`` seconds at most."""
    frames = 0
    try:
        async with asyncio.timeout(MEDIA_LIMIT):
            track = await tracks.get()
            while frames < FRAMES:
                await track.recv()
                frames += 1
    except (TimeoutError, MediaStreamError):
        pass
    return frames


async def packets_received(peer: RTCPeerConnection) -> int:
    """Count the RTP packets that a PeerConnection has received."""
    stats = await peer.getStats()
    return sum(report.packetsReceived for report in stats.values() if report.type == "inbound-rtp")


def connection_failure(side: str, addresses: list[str]) -> Outcome:
    """Return the outcome for a ``side`` without a connection; ``addresses`` are those of the SFU's candidates."""
    offered = list(dict.fromkeys(addresses))
    shown_addresses = [f"{address}{'' if _is_global(address) else ' (private)'}" for address in offered]
    change = (
        "let firewalls pass the UDP ports of rtp_port_range (janus.jcfg), or of mcu.inprocess.port_min to port_max;"
        f" {_ADDRESS_REMEDY}; in-process: set mcu.inprocess.announced_address"
    )
    evidence = f"the SFU offers {', '.join(shown_addresses) or 'no candidate'}"
    return failed(f"the {side} gets no connection to the SFU within {CONNECT_LIMIT:g} s", change, evidence)


def _request_failure(error: McuError) -> Outcome:
    return failed("Janus carries out no request about a stream", "see Janus' log, and docs/janus.md", str(error))


async def wait_connected(peer: RTCPeerConnection) -> bool:
    """Wait until a PeerConnection is connected or has failed; return whether it is connected."""
    changed = asyncio.Event()
    peer.on("connectionstatechange", changed.set)
    try:
        async with asyncio.timeout(CONNECT_LIMIT):
            while peer.connectionState in ("new", "connecting"):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return False
    return bool(peer.connectionState == "connected")


@asynccontextmanager
async def _sfu(janus: ExaminedJanus, request_timeout: float) -> AsyncIterator[JanusMcu]:
    """Connect to Janus with a session of the doctor's own, and end the session afterwards."""
    sfu = JanusMcu((janus.settings,), request_timeout, secrets.token_hex(6))
    await sfu.start(lambda status: None)
    try:
        yield sfu
    finally:
        await sfu.stop()


@asynccontextmanager
async def _publication(
    sfu: JanusMcu, request_timeout: float
) -> AsyncIterator[tuple[RTCPeerConnection, _CandidateListener]]:
    """Publish silence, and end the publication afterwards."""
    peer = new_peer()
    candidates = _CandidateListener(peer)
    peer.addTransceiver(AudioStreamTrack(), direction="sendonly")
    try:
        await peer.setLocalDescription(await peer.createOffer())
        offer = parse(peer.localDescription.sdp).freeze()
        publisher, answer = await sfu.publish(_KEY, offer, PublishOptions(timeout=request_timeout), candidates)
        try:
            candidates.collect_addresses(answer)
            await peer.setRemoteDescription(RTCSessionDescription(str(answer), "answer"))
            yield peer, candidates
        finally:
            await publisher.close()
    finally:
        await peer.close()


def new_peer() -> RTCPeerConnection:
    """Make a PeerConnection without STUN and TURN."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def _is_of_container(address: str) -> bool:
    try:
        return ip_address(address) in _DOCKER_NETWORKS
    except ValueError:  # a name
        return False


def _is_global(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:  # a name
        return True
