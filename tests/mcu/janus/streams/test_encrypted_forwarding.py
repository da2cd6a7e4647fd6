"""RTP between two real Janus, as a relay between them sees it: SRTP where both support it, else unencrypted."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcu.base import PublishOptions, SubscribeOptions
from mcu.janus.streams.remote import SRTP_KEY_LENGTH, SRTP_SUITE, RemoteStream
from tests.janus_process import CURRENT, SYSTEM_JANUS, JanusProcess, select_janus
from tests.mcu.janus.conftest import WAIT, answer_offer, renegotiate
from tests.mcu.janus.janus_group import JanusGroup, start_all
from tests.media.loopback import loopback

__all__ = ["loopback"]

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("loopback")]

IN_US = PublishOptions(country="US")
FROM_DE = SubscribeOptions(country="DE")
VP8_START_CODE = b"\x9d\x01\x2a"  # in each keyframe (RFC 6386 9.1)
RTP_HEADER = 12  # bytes; Janus forwards no CSRC
SEARCHED_BYTES = 64  # bytes of a packet in which the start code of a keyframe stands


class RtpRelay:
    """A UDP port whose datagrams are recorded and sent on to the target."""

    def __init__(self, target_port: int) -> None:
        self.datagrams: list[bytes] = []
        self._target = ("127.0.0.1", target_port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._socket, self._forward)

    def _forward(self) -> None:
        datagram = self._socket.recv(65_536)
        self.datagrams.append(datagram)
        self.send(datagram)

    def send(self, datagram: bytes) -> None:
        """Send a datagram to the target."""
        self._socket.sendto(datagram, self._target)

    def close(self) -> None:
        """Close the port."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    @property
    def has_plain_keyframe(self) -> bool:
        """Whether a VP8 keyframe has passed unencrypted."""
        return any(VP8_START_CODE in datagram[RTP_HEADER:SEARCHED_BYTES] for datagram in self.datagrams)


class RelayedRequests:
    """The requests that forward streams to the target; they name a relay's port in place of the target's."""

    def __init__(self) -> None:
        self.relays: list[RtpRelay] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def keys(self) -> list[bytes]:
        """The keys in the requests."""
        return [base64.b64decode(body["srtp_crypto"]) for body in self.bodies if "srtp_crypto" in body]


@pytest.fixture
async def requests(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RelayedRequests]:
    """Record the requests that forward streams, and put a relay between source and target of each stream."""
    found = RelayedRequests()
    to_source, to_target = RemoteStream._forwarding_request, RemoteStream._target_request

    def forwarding_request(remote: RemoteStream, port: int, rtcp_port: int) -> dict[str, Any]:
        relay = RtpRelay(port)
        found.relays.append(relay)
        found.bodies.append(to_source(remote, relay.port, rtcp_port))
        return found.bodies[-1]

    def target_request(remote: RemoteStream, request: str) -> dict[str, Any]:
        found.bodies.append(to_target(remote, request))
        return found.bodies[-1]

    monkeypatch.setattr(RemoteStream, "_forwarding_request", forwarding_request)
    monkeypatch.setattr(RemoteStream, "_target_request", target_request)
    yield found
    for relay in found.relays:
        relay.close()


@asynccontextmanager
async def two_janus(source: str, target: str) -> AsyncIterator[JanusGroup]:
    """Start a source in the US and a target in Germany, of these versions."""
    janus = []
    for version in (source, target):
        with select_janus(version):
            janus.append(JanusProcess())
    async with start_all(janus, remote_streams=True) as group:
        group.change(0, country="US")
        group.change(1, country="DE")
        await group.start()
        yield group


async def test_streams_between_two_current_janus_are_encrypted_each_with_a_key_of_its_own(
    requests: RelayedRequests, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "portunus")
    async with two_janus(CURRENT.version, CURRENT.version) as group:
        call = group.new_call()
        publisher, sender, _ = await call.publish(5, channels=False, options=IN_US)
        subscriber, watcher, listener = await call.subscribe(options=FROM_DE)
        await watcher.wait_for_tone(sender.frequency)
        sender.add_camera()
        await renegotiate(publisher, sender)
        await listener.until(lambda: bool(listener.offers))
        await answer_offer(subscriber, watcher, listener.offers[0])
        await watcher.wait_for_picture(5)
        first = requests.relays[0]
        keys = set(requests.keys)
        assert len(keys) == 1
        assert len(requests.keys) == len(requests.bodies)  # also in the requests about the added camera
        assert {body["srtp_suite"] for body in requests.bodies} == {SRTP_SUITE}
        await subscriber.close()
        await call.subscribe(options=FROM_DE)
        assert len(set(requests.keys)) == 2
        assert {len(key) for key in requests.keys} == {SRTP_KEY_LENGTH}
        assert first.datagrams
        assert not any(relay.has_plain_keyframe for relay in requests.relays)
        log = caplog.text + "".join(process.log.read_text(errors="replace") for process in group.janus)
    assert not any(base64.b64encode(key).decode() in log for key in requests.keys)
    assert "not encrypted" not in caplog.text


async def test_packets_without_a_valid_authentication_tag_are_dropped(requests: RelayedRequests) -> None:
    async with two_janus(CURRENT.version, CURRENT.version) as group:
        call = group.new_call()
        _, sender, _ = await call.publish(5, channels=False, options=IN_US)
        _, watcher, _ = await call.subscribe(options=FROM_DE)
        await watcher.wait_for_tone(sender.frequency)
        (relay,) = requests.relays
        for datagram in relay.datagrams[-5:]:
            relay.send(datagram[:-1] + bytes([datagram[-1] ^ 1]))
        log = group.janus[1].log
        async with asyncio.timeout(WAIT):
            while log.read_text(errors="replace").count("SRTP unprotect error") < 5:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [(SYSTEM_JANUS.version, CURRENT.version, "Janus 1"), (CURRENT.version, SYSTEM_JANUS.version, "Janus 2")],
    ids=["to-current", "from-current"],
)
async def test_forwarding_from_and_to_an_older_janus_is_unencrypted_and_logged_once(
    requests: RelayedRequests, caplog: pytest.LogCaptureFixture, source: str, target: str, named: str
) -> None:
    async with two_janus(source, target) as group:
        call = group.new_call()
        for number in (5, 6):
            _, sender, _ = await call.publish(number, video=True, options=IN_US)
            _, watcher, listener = await call.subscribe(options=FROM_DE)
            await watcher.wait_for_picture(number)
            await watcher.wait_for_tone(sender.frequency)
            assert await group.room_counts() == [1, 1]
            assert listener.closed == []
        assert [relay.has_plain_keyframe for relay in requests.relays] == [True, True]
        assert requests.keys == []
        await call.mcu.stop()
        await group.until_clean()
    (warning,) = [message for message in caplog.messages if "not encrypted" in message]
    assert warning.startswith(named)
