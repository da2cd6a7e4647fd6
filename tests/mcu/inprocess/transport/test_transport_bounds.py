"""Bounds on the records, bytes and objects that a transport keeps, whatever strangers and clients send."""

from __future__ import annotations

import asyncio
import os
import socket

import aioice
import pytest
from aioice import stun
from aiortc import RTCSctpTransport
from aiortc.rtcsctptransport import DataChunk, SackChunk

from mcu.inprocess import InprocessSettings
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.transport import peer_transport, stun_rate
from mcu.inprocess.transport.aiortc_internals import dtls
from mcu.inprocess.transport.aiortc_internals import ice as ice_limits
from mcu.inprocess.transport.aiortc_internals import sctp as sctp_limits
from mcu.inprocess.transport.aiortc_internals.dtls import DtlsTransport
from mcu.inprocess.transport.aiortc_internals.ice import IceTransport
from mcu.inprocess.transport.aiortc_internals.sctp import SctpTransport
from mcu.inprocess.transport.dtls_records import dtls_records
from mcu.inprocess.transport.peer_transport import PeerTransport
from mcu.inprocess.transport.stun_rate import StunRate
from sdp.candidates import parse
from tests.mcu.inprocess.transport.test_peer_transport import RecordingTransportListener, connection

SETTINGS = InprocessSettings(address="127.0.0.1")


def record(size: int, content_type: int = 22) -> bytes:
    return bytes([content_type, 0xFE, 0xFD]) + bytes(8) + size.to_bytes(2, "big") + bytes(size)


async def test_datagrams_of_strangers_are_not_kept_before_ice() -> None:
    ice = IceTransport(SETTINGS, lambda data: None, controlling=False)
    await ice.gather_candidates()
    port = ice.local_candidates[0].port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(2000):
            stranger.sendto(record(1000), ("127.0.0.1", port))
            await asyncio.sleep(0)
        assert ice._queue.qsize() == 0
        address, own_port = "127.0.0.1", stranger.getsockname()[1]
        text = f"candidate:1 1 udp 1 {address} {own_port} typ host"
        known = parse(text)
        ice.add(aioice.Candidate("1", 1, "udp", known.priority, address, own_port, "host"))
        for _ in range(2000):
            stranger.sendto(record(1000), ("127.0.0.1", port))
            await asyncio.sleep(0)
        assert 0 < ice._queue.qsize() <= ice_limits.MAX_QUEUED
    await ice.close()


def connectivity_check(ice: IceTransport, software: str) -> stun.Message:
    """Return an authentic connectivity check with the name of a program."""
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes |= {"USERNAME": f"{ice.local_username}:abcd", "PRIORITY": 1, "ICE-CONTROLLING": 1}
    message.attributes["SOFTWARE"] = software
    message.add_message_integrity(ice.local_password.encode())
    return message


async def test_stun_messages_longer_than_a_packet_are_dropped_unread() -> None:
    ice = IceTransport(SETTINGS, lambda data: None, controlling=False)
    await ice.gather_candidates()
    ice.set_remote("abcd", "a" * 22, lite=False)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        checks = [connectivity_check(ice, "x" * ice_limits.MAX_STUN), connectivity_check(ice, "x")]
        for message in checks:
            await loop.sock_sendto(client, bytes(message), ("127.0.0.1", ice.local_candidates[0].port))
        async with asyncio.timeout(30):
            answer = stun.parse_message(await loop.sock_recv(client, 2048))
        assert answer.transaction_id == checks[1].transaction_id
    await ice.close()


async def checks_answered(ice: IceTransport, client: socket.socket, count: int) -> int:
    """Send checks, and return the number of success responses."""
    answered = 0
    for _ in range(count):
        client.sendto(bytes(connectivity_check(ice, "x")), ("127.0.0.1", ice.local_candidates[0].port))
        for _ in range(4):  # loop iterations: the datagram is read in one, the answer sent at once
            await asyncio.sleep(0)
        try:
            while client.recv(2048)[:2] == b"\x01\x01":  # a success response
                answered += 1
        except BlockingIOError:
            pass
    return answered


async def test_flood_of_strangers_leaves_the_checks_of_the_client_their_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stun_rate, "RATE", 0.0)  # so that the speed of the machine does not matter
    ice = IceTransport(SETTINGS, lambda data: None, controlling=False)
    await ice.gather_candidates()
    ice.set_remote("abcd", "a" * 22, lite=False)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        for end in (client, stranger):
            end.bind(("127.0.0.1", 0))
            end.setblocking(False)
        address, port = client.getsockname()
        ice.add(aioice.Candidate("1", 1, "udp", 1, address, port, "host"))
        for _ in range(500):
            stranger.sendto(b"\x00\x01" + bytes(18), ("127.0.0.1", ice.local_candidates[0].port))
            await asyncio.sleep(0)
        assert await checks_answered(ice, client, 100) == stun_rate.BURST
    await ice.close()


def test_messages_above_the_burst_are_read_at_the_rate() -> None:
    rate = StunRate()
    assert sum(rate.take(1000.0) for _ in range(200)) == stun_rate.BURST
    assert sum(rate.take(1001.0) for _ in range(200)) == stun_rate.BURST  # no more than the burst is saved up
    for step in range(1, 51):
        assert rate.take(1001.0 + 1.001 * step / stun_rate.RATE)
        assert not rate.take(1001.0 + 1.001 * step / stun_rate.RATE)


def test_each_record_of_a_datagram_is_read_and_large_ones_are_dropped() -> None:
    small, data = record(20), record(1400, 23)
    assert list(dtls_records(small + data + small)) == [small, data, small]
    assert list(dtls_records(record(1600, 23) + small)) == [small]
    assert list(dtls_records(record(5000))) == []
    assert list(dtls_records(small + record(50)[:-1])) == [small]
    assert list(dtls_records(b"")) == []
    for _ in range(200):
        datagram = bytes([20]) + os.urandom(60)
        assert sum(map(len, dtls_records(datagram))) <= len(datagram)
    unified = bytes([0x2C, 0, 1, 0, 3]) + b"abc"
    assert list(dtls_records(unified + unified)) == [unified, unified]


def sctp() -> SctpTransport:
    dtls = DtlsTransport(IceTransport(SETTINGS, lambda data: None, controlling=True))
    association = SctpTransport(dtls)
    association._last_received_tsn = 0
    association._remote_port = 5000
    association._last_sacked_tsn = association._local_tsn - 1 & 0xFFFFFFFF
    return association


def data_chunk(tsn: int, flags: int, size: int = 1000, stream: int = 0, number: int = 0) -> DataChunk:
    data = DataChunk(flags)
    data.tsn, data.stream_id, data.stream_seq, data.protocol, data.user_data = tsn, stream, number, 53, bytes(size)
    return data


@pytest.mark.parametrize("size", [1, 1000])
async def test_endless_message_ends_the_association(size: int) -> None:
    association = sctp()
    for tsn in range(1, 5000):
        await association._receive_chunk(data_chunk(tsn, 1 << 1 if tsn == 1 else 0, size))
        assert association.kept_chunks <= sctp_limits.MAX_WAITING + sctp_limits.MAX_FRAGMENTS
    assert association.kept_chunks == 0
    assert association._association_state is RTCSctpTransport.State.CLOSED


async def test_kept_first_chunks_of_messages_in_many_streams_are_bounded() -> None:
    association = sctp()
    for tsn in range(1, 20_000):
        await association._receive_chunk(data_chunk(tsn, 1 << 1, 1, tsn % 65536))
        assert association.kept_chunks <= sctp_limits.MAX_KEPT_CHUNKS + sctp_limits.COUNT_CHUNKS_EVERY
        assert len(association._inbound_streams) <= sctp_limits.MAX_STREAMS


async def test_kept_chunks_after_a_missing_chunk_are_bounded_and_the_missing_chunk_is_accepted() -> None:
    association = sctp()
    for tsn in range(2, 5000):
        await association._receive_chunk(data_chunk(tsn, 3, 100, number=tsn - 1))
    kept = association.kept_chunks
    assert 0 < kept <= sctp_limits.MAX_TSN_AHEAD
    assert len(association._sack_misordered) <= sctp_limits.MAX_TSN_AHEAD
    await association._receive_chunk(data_chunk(1, 3, 100))
    assert association._last_received_tsn == kept + 1


async def test_acknowledgement_of_chunks_that_were_never_sent_is_ignored() -> None:
    association = sctp()
    before = association._last_sacked_tsn
    sack = SackChunk()
    sack.cumulative_tsn, sack.gaps = before, [(1, 65535)] * 300
    await association._receive_chunk(sack)
    sack.cumulative_tsn, sack.gaps = before + 1000 & 0xFFFFFFFF, []
    await association._receive_chunk(sack)
    assert association._last_sacked_tsn == before


async def test_srtp_state_is_kept_only_for_the_last_ssrcs(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[int] = []
    monkeypatch.setattr(dtls, "_remove_streams", lambda session, ssrcs: removed.extend(ssrcs))
    async with connection() as (transport, listener):
        for ssrc in range(1, 4 * peer_transport.MAX_SSRCS):
            transport.send_rtp(rtp.HEADER.pack(rtp.VERSION_BITS, 96, ssrc, 0, 1_000_000))  # an SSRC that continues
            transport.send_rtp(rtp.HEADER.pack(rtp.VERSION_BITS, 96, 1, 0, ssrc))
            if ssrc % 50 == 0:
                await asyncio.sleep(0.001)
        await listener.until(lambda: len(listener.packets) >= 4 * peer_transport.MAX_SSRCS)
    assert len(removed) >= peer_transport.MAX_SSRCS - 1  # SSRC 1 is received throughout
    assert len(set(removed)) == len(removed)
    assert 1_000_000 not in removed


async def test_sent_ssrcs_can_be_forgotten_before_the_transport_is_connected() -> None:
    transport = PeerTransport(SETTINGS, RecordingTransportListener(), controlling=True)
    transport.forget_sent(1, 2)
    await transport.open()
    await transport.close()
