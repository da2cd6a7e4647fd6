"""Rights in special cases: requests under way, sessions in no room, and reloads (docs/threat-model.md)."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from gateway.core.session import Session
from gateway.flows.postponed import Postponed
from gateway.flows.settings import MediaLimits
from gateway.flows.tasks import Work
from gateway.wire.client import ClientMessage
from mcu.base import StreamType
from tests.captured_log import captured_lines
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FlowHarness
from tests.gateway.flows.media.calls import publish, subscribe
from tests.gateway.flows.test_rights import (
    disinvited_while_disconnected_only,
    in_a_call,
    may_publish,
    may_receive,
)
from tests.gateway.flows.virtual_time import settle


@pytest.mark.parametrize("in_flight", ["offer", "renegotiation"])
async def test_offer_under_way_during_the_first_join_is_refused(in_flight: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["publish-audio"])
        alice = await harness.hello("alice")
        if in_flight == "renegotiation":
            alice.offer(media=("audio",))
            await settle()
        gate = harness.mcu.publish_gate = asyncio.Event()
        alice.offer("two", sid="2")
        await settle()
        alice.join("r", "nc-alice")
        await settle()
        gate.set()
        await settle()
        assert harness.publisher(alice) is None
        assert (
            next(message for message in alice.received() if message["type"] == "error")["error"]["code"]
            == "not_allowed"
        )


# reference 8-i
async def test_publication_from_before_the_first_join_continues_in_a_room_that_allows_it() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["publish-media"])
        alice = await harness.hello("alice")
        await publish(alice)
        await publish(alice, "two", sid="2", room_type="screen")
        alice.join("r", "nc-alice")
        await settle()
        assert harness.publisher(alice) is not None
        assert harness.publisher(alice, StreamType.SCREEN) is None


# reference 8-i
async def test_permissions_in_a_request_of_another_room_have_no_effect() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice, _ = await harness.member("alice"), await harness.member("bob", "another")
        changed = [{"sessionId": "nc-alice", "permissions": ["control"]}]
        harness.rooms_api("another", {"type": "participants", "participants": {"changed": changed}})
        assert not alice.session.may("control")


async def test_subscriptions_outside_of_a_call_end_when_subscribe_any_is_turned_off() -> None:
    async with FlowHarness(media_limits=MediaLimits(subscribe_any=True)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        stranger, internal = await harness.hello("stranger"), await harness.internal_hello()
        await publish(alice)
        for client in (bob, stranger, internal):
            await subscribe(client, alice)
        assert len(harness.mcu.subscribers) == 3
        harness.change_settings(media_limits=MediaLimits(subscribe_any=True))
        await settle()
        assert len(harness.mcu.subscribers) == 3
        harness.change_settings(media_limits=MediaLimits())
        await settle()
        assert len(harness.mcu.subscribers) == 2
        stranger.media(alice, "selectStream", id="s")
        await settle()
        assert stranger.error_codes() == ["client_not_found"]


# reference 3.6-f
@pytest.mark.parametrize(
    ("backends", "kept"),
    [
        ([Backend("cloud", ("https://moved.example/",), CLOUD.secret), OTHER_CLOUD], True),
        ([Backend("cloud", ("https://moved.example/",), "another secret"), OTHER_CLOUD], False),
        ([Backend("cloud", OTHER_CLOUD.urls, OTHER_CLOUD.secret), Backend("other", CLOUD.urls, CLOUD.secret)], False),
        ([Backend("cloud", ("https://moved.example/",), CLOUD.secret), Backend("new", CLOUD.urls, "x")], False),
        ([Backend("new", CLOUD.urls, CLOUD.secret), OTHER_CLOUD], False),
        ([OTHER_CLOUD], True),
    ],
)
async def test_session_ends_when_its_backend_becomes_another_nextcloud(backends: list[Backend], kept: bool) -> None:
    async with FlowHarness() as harness:
        (alice,) = await harness.callers("alice")
        await publish(alice)
        internal = await harness.internal_hello()
        hello = harness.connect()
        hello.received()
        held = harness.nextcloud.gate = asyncio.Event()
        hello.send_hello("bob")
        await settle()
        with captured_lines() as lines:
            harness.change_settings(backends=Backends(backends))
            held.set()
            await settle()
        configured = Backends(backends).find_with_base_url(CLOUD.urls[0]) is not None
        assert any("no backend is configured for" in line for line in lines) is not configured
        assert (alice.sessionid in harness.hub.sessions) is kept
        assert (internal.sessionid in harness.hub.sessions) is kept
        assert harness.mcu.is_empty is not kept
        assert hello.error_codes() == ["invalid_backend"]


# reference 3.6-f
async def test_hello_during_a_reload_gets_the_changed_settings() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        held = harness.nextcloud.gate = asyncio.Event()
        client.send_hello("bob")
        await settle()
        changed = Backend("cloud", CLOUD.urls, CLOUD.secret, max_stream_bitrate=1000)
        harness.change_settings(backends=Backends([changed, OTHER_CLOUD]))
        held.set()
        await settle()
        client.sessionid = client.received()[-1]["hello"]["sessionid"]
        assert client.session.backend is changed


class PostponedUntil(Postponed):
    """Postpones a message until an event is set."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self) -> None:
        await self._event.wait()


def postpone_control(harness: FlowHarness, event: asyncio.Event) -> None:
    """Postpone control messages until the event is set."""
    handlers = harness.dispatch._handlers
    control = handlers["control"]

    def postponed(session: Session, message: ClientMessage) -> Work | None:
        if not event.is_set():
            raise PostponedUntil(event)
        return control(session, message)

    handlers["control"] = postponed


# reference 2.7-d
@pytest.mark.parametrize("postponed", [False, True])
async def test_messages_that_wait_while_a_disconnected_session_is_disinvited_have_no_effect(postponed: bool) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        scene = await in_a_call(harness)
        harness.nextcloud.rooms["refused"] = FakeRoom(error={"code": "no_such_room", "message": ""})
        held = harness.nextcloud.gate = asyncio.Event()
        if postponed:
            postpone_control(harness, held)
        else:
            scene.alice.join("refused", "nc-alice-2")
            await settle()
        scene.bob.received()
        scene.alice.send({"type": "control", "control": {"recipient": {"type": "room"}, "data": {"type": "mute"}}})
        scene.alice.send({"type": "transient", "transient": {"type": "set", "key": "k", "value": 1}})
        scene.alice.offer("three", sid="3")
        scene.alice.media(scene.bob, "requestoffer")
        await disinvited_while_disconnected_only(scene)
        held.set()
        await settle()
        assert scene.alice.sessionid in harness.hub.sessions
        assert [message["type"] for message in scene.bob.received() if message["type"] != "event"] == []
        assert not await may_publish(scene)
        assert not await may_receive(scene)
