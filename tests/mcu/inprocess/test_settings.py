"""Settings of the in-process SFU, and their effect on sockets and candidates."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Iterator

import msgspec
import pytest

from mcu.base import BackendId, PublisherId, PublishOptions, Rejected, StreamKey, StreamType
from mcu.inprocess import InprocessSettings, backend
from mcu.inprocess.backend import InprocessMcu
from tests.captured_log import captured_lines
from tests.mcu.contract.clients import sender, viewer
from tests.mcu.descriptions import parse_frozen
from tests.ports import PortBlock, lease_block

KEY = StreamKey(BackendId("cloud"), PublisherId("alice"), StreamType.VIDEO)


def decode(table: dict[str, object]) -> InprocessSettings:
    """Decode a configuration table."""
    return msgspec.convert(table, InprocessSettings)


def test_one_or_several_addresses_are_decoded_and_none_is_the_default() -> None:
    assert decode({}) == InprocessSettings()
    assert decode({}).addresses == ()
    assert decode({"address": "192.0.2.1"}).addresses == ("192.0.2.1",)
    assert decode({"address": ["192.0.2.1", "2001:db8::1"]}).addresses == ("192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize(
    "table",
    [
        {"address": "localhost"},
        {"address": "0.0.0.0"},
        {"address": ["::"]},
        {"announced_address": "example.com"},
        {"port_min": 20000},
        {"port_max": 20000},
        {"port_min": 20001, "port_max": 20000},
        {"port_min": 80, "port_max": 20000},
        {"port_min": 20000, "port_max": 70000},
        {"prot_min": 20000},
    ],
)
def test_invalid_settings_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(table)


@pytest.fixture
def block() -> Iterator[PortBlock]:
    with lease_block() as leased:
        yield leased


async def test_candidates_have_ports_of_the_range_and_the_announced_address(loopback: None, block: PortBlock) -> None:
    first, last = block.first, block.first + 1
    mcu = InprocessMcu(
        InprocessSettings(address="127.0.0.1", announced_address="192.0.2.7", port_min=first, port_max=last)
    )
    await mcu.start(lambda status: None)
    async with sender() as alice, sender() as bob, sender() as carol:
        ports = set()
        for client, publisher in ((alice, "first"), (bob, "second")):
            key = StreamKey(BackendId("cloud"), PublisherId(publisher), StreamType.VIDEO)
            _, answer = await mcu.publish(key, parse_frozen(await client.peer.offer()), PublishOptions(), client)
            ports.update(re.findall(r"a=candidate:\S+ 1 udp \d+ 192\.0\.2\.7 (\d+) typ host", str(answer)))
            assert "127.0.0.1" not in str(answer).partition("m=")[2]
        assert ports == {str(first), str(last)}
        with pytest.raises(Rejected, match="no socket"):
            await mcu.publish(KEY, parse_frozen(await carol.peer.offer()), PublishOptions(), carol)
    await mcu.stop()


async def test_changed_settings_apply_to_the_next_connection(loopback: None, block: PortBlock) -> None:
    first, last = block.first, block.first + 3
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    async with sender(5) as alice, viewer() as carol:
        await alice.publish(mcu)
        mcu.reconfigure(InprocessSettings(address="127.0.0.1", port_min=first, port_max=last))
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(5)
        ports = re.findall(r" 127\.0\.0\.1 (\d+) typ host", carol.peer.pc.remoteDescription.sdp)
        assert ports
        assert all(first <= int(port) <= last for port in ports)
    await mcu.stop()


def test_connections_are_limited_by_settings_ports_and_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 1000))
    tables: list[tuple[dict[str, object], int]] = [
        ({"peer_connections": 30}, 30),
        ({"peer_connections": 30, "port_min": 20000, "port_max": 20009}, 10),
        ({"peer_connections": 0, "port_min": 20000, "port_max": 20009}, 10),
        ({"peer_connections": 0}, 500),
        ({}, 500),
    ]
    for table, capacity in tables:
        assert InprocessMcu(decode(table)).status().capacity == capacity
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert InprocessMcu(decode({})).status().capacity == 12_000
    assert InprocessMcu(decode({"peer_connections": 0})).status().capacity == 0


async def test_socket_that_does_not_close_is_named_and_does_not_keep_the_sfu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "STOP_LIMIT", 0.05)
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)

    async def wait_for_peer() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_peer())
    mcu._keep_task(task)
    with captured_lines() as lines:
        await mcu.stop()
    assert [
        "a PeerConnection did not close within 0.05 s: " in line and "wait_for_peer, line " in line for line in lines
    ] == [True]
    task.cancel()
