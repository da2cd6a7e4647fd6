"""The document of ``/api/v1/serverinfo`` (reference 1.3)."""

from __future__ import annotations

from typing import Any

from gateway.core.session import ClientType
from gateway.edge.operator.serverinfo import describe
from mcu.base import McuStatus, SfuState, SfuStatus
from tests.gateway.flows.harness import FakeClient, FlowHarness

DETAILS = {"author": "A", "datachannels": True, "fulltrickle": True, "localip": "192.0.2.1", "ipv6": False}
READY_SFU = SfuStatus("ws://one", SfuState.READY, "Janus", "1.1.2", details={**DETAILS, "videoroom": {"name": "R"}})
UNREACHABLE_SFU = SfuStatus("ws://two", SfuState.CONNECTING, "Janus", "1.1.2", "it does not answer")


async def server_info(mcu: McuStatus | None = None) -> dict[str, Any]:
    async with FlowHarness() as harness:
        return dict(describe(harness.services, "1.2.3", ("a", "b"), mcu))


async def test_document_without_an_sfu_has_version_and_features() -> None:
    nats = {"urls": ["nats://loopback"], "connected": True}
    assert await server_info() == {"version": "1.2.3", "features": ["a", "b"], "nats": nats}


# reference 1.3-c
async def test_janus_is_described_when_it_is_connected() -> None:
    document = await server_info(McuStatus("janus", (READY_SFU,)))
    janus = {"url": "ws://one", "connected": True, "name": "Janus", "version": "1.1.2", "videoroom": {"name": "R"}}
    assert document["sfu"] == {"mode": "janus", "janus": janus | DETAILS}


async def test_disconnected_janus_has_only_its_url() -> None:
    document = await server_info(McuStatus("janus", (UNREACHABLE_SFU,)))
    assert document["sfu"] == {"mode": "janus", "janus": {"url": "ws://two", "connected": False}}


# reference 1.3-d
async def test_several_janus_are_listed_with_state_and_load() -> None:
    drained = SfuStatus("ws://three", SfuState.DRAINING, "Janus", "1.1.2", "takes no new streams", 1, 2, 4.5, 1.0)
    document = await server_info(McuStatus("janus", (UNREACHABLE_SFU, drained, READY_SFU)))
    assert document["sfu"]["janus"] == {
        "url": "ws://two",
        "connected": False,
        "reason": "it does not answer",
        "load": 0.0,
        "publishers": 0,
        "clients": 0,
    }
    assert document["sfu"]["others"][0] == {
        "url": "ws://three",
        "connected": True,
        "name": "Janus",
        "version": "1.1.2",
        "load": 4.5,
        "publishers": 1,
        "clients": 3,
        "shutdown": True,
        "uptime": "1970-01-01T00:00:01+00:00",
        "reason": "takes no new streams",
    }
    assert [janus["url"] for janus in document["sfu"]["others"]] == ["ws://three", "ws://one"]


# reference 1.3-d
async def test_inprocess_sfu_has_a_mode_of_its_own() -> None:
    assert (await server_info(McuStatus("inprocess", (READY_SFU,))))["sfu"] == {"mode": "inprocess"}


def allow_dialout(client: FakeClient) -> None:
    client.session.client_type = ClientType.INTERNAL
    client.session.features = ("start-dialout",)


# reference 1.3-c
async def test_clients_that_can_dial_are_listed_by_id() -> None:
    async with FlowHarness() as harness:
        dialers = [await harness.hello(str(number)) for number in range(2)]
        for dialer in dialers:
            allow_dialout(dialer)
        (await harness.hello("internal")).session.client_type = ClientType.INTERNAL
        (await harness.hello("client")).session.features = ("start-dialout",)
        dialers[1].disconnect()
        listed = describe(harness.services, "1", (), None)["dialout"]
        connected = {
            "sessionid": dialers[0].sessionid,
            "connected": True,
            "address": "192.0.2.1",
            "useragent": "fake/1.0 client",
            "version": "1.0",
            "features": ["start-dialout"],
        }
        disconnected = {"sessionid": dialers[1].sessionid, "connected": False}
        assert listed == sorted([connected, disconnected], key=lambda client: str(client["sessionid"]))
