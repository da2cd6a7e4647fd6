"""Random sequences of media events: the registry and the SFU have the same streams, and in the end none."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcu.base import CloseReason, McuLost, Rejected
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.descriptions import CANDIDATE, answer
from tests.gateway.flows.virtual_time import VirtualLoop, settle

NAMES = ("alice", "bob", "carol")
FEATURES = {"alice": ("republish",), "bob": (), "carol": ("republish", "ack")}

Step = tuple[str, int, int]  # an event, and the indices of a client and of another client
EVENTS = (
    *("offer", "offer new connection", "offer screen", "request", "request", "request screen", "refresh", "sendoffer"),
    *("answer", "candidate", "select", "unshare", "disconnect", "resume", "leave call", "enter call", "leave room"),
    *("join", "revoke", "permit", "hold publish", "hold subscribe", "hold streams", "release", "publish fails"),
    *("sfu closes a publisher", "sfu closes all", "sfu fails", "sfu recovers", "sfu closes a subscription"),
    *("settle", "second", "long time"),
)
steps = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


class Scenario:
    """Three clients in one call, and the random events; a disconnected client sends no messages."""

    def __init__(self, harness: FlowHarness, clients: list[FakeClient]) -> None:
        self.harness = harness
        self.clients = clients
        self.disconnected = [False] * len(clients)
        self.gate = asyncio.Event()
        self.connections = 0

    async def apply(self, step: Step) -> None:
        event, index, other_index = step
        harness, client, other = self.harness, self.clients[index], self.clients[other_index]
        mcu, name = harness.mcu, NAMES[index]
        connected = not self.disconnected[index]
        match event:
            case "offer" if connected:
                client.offer()
            case "offer new connection" if connected:
                self.connections += 1
                client.offer(f"c{self.connections}", sid=str(self.connections))
            case "offer screen" if connected:
                self.connections += 1
                client.offer(f"c{self.connections}", sid=str(self.connections), roomType="screen")
            case "request" if connected:
                client.media(other, "requestoffer")
            case "request screen" if connected:
                client.media(other, "requestoffer", room_type="screen")
            case "refresh" if connected:
                for subscription in list(harness.media._streams.streams_of(client.session).subscriptions.values()):
                    client.media(other, "requestoffer", sid=subscription.sid)
            case "sendoffer" if connected:
                client.media(other, "sendoffer", room_type="screen")
            case "answer" if connected:
                client.media(other, "answer", payload={"type": "answer", "sdp": answer()})
            case "candidate" if connected:
                client.media(other, "candidate", payload={"candidate": {"candidate": CANDIDATE}})
            case "select" if connected:
                client.media(other, "selectStream", payload={"video": False})
            case "unshare" if connected:
                client.media(client, "unshareScreen", room_type="screen")
            case "disconnect" if connected:
                client.disconnect()
                self.disconnected[index] = True
            case "resume":
                self.clients[index] = await harness.resume(client)
                self.disconnected[index] = False
            case "leave call" | "enter call":
                harness.set_in_call("r", name, flags=7 * (event == "enter call"))
            case "leave room" if connected:
                client.leave()
            case "join" if connected:
                client.join("r", f"nc-{name}")
            case "revoke" | "permit":
                names = ["publish-media", "publish-screen"] if event == "permit" else ["publish-audio"]
                changed = [{"sessionId": f"nc-{name}", "permissions": names}]
                harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})
            case "hold publish":
                mcu.publish_gate = self.gate
            case "hold subscribe":
                mcu.subscribe_gate = self.gate
            case "hold streams":
                for publisher in mcu.publishers.values():
                    publisher.gate = self.gate
                for subscriber in mcu.subscribers:
                    subscriber.gate = self.gate
            case "release":
                self.release()
            case "publish fails":
                mcu.publish_error = None if mcu.publish_error else Rejected("no")
            case "sfu closes a publisher":
                for publisher in list(mcu.publishers.values())[:1]:
                    publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
            case "sfu closes all":
                for publisher in list(mcu.publishers.values()):
                    publisher.error = McuLost("gone")
                    publisher.end(CloseReason.LOST, CloseReason.LOST)
            case "sfu fails":
                mcu.lose_streams()
            case "sfu recovers":
                await mcu.recover()
            case "sfu closes a subscription":
                for subscriber in mcu.subscribers[:1]:
                    subscriber.end(CloseReason.LOST)
            case "settle":
                await settle()
            case "second":
                await asyncio.sleep(1.05)
            case "long time":
                await asyncio.sleep(11)

    def release(self) -> None:
        mcu = self.harness.mcu
        mcu.publish_gate = mcu.subscribe_gate = None
        self.gate.set()
        self.gate = asyncio.Event()


async def play(steps: list[Step]) -> None:
    async with FlowHarness() as harness:
        clients = [await harness.member(name, in_call=True, features=FEATURES[name]) for name in NAMES]
        scenario = Scenario(harness, clients)
        for step in steps:
            await scenario.apply(step)
        scenario.release()
        await harness.mcu.recover()
        await asyncio.sleep(1000)  # requests wait for their publisher for ten seconds at most
        mcu, streams = harness.mcu, harness.media._streams
        assert mcu.pending_calls == 0
        publications = list(streams.publications())
        assert {publication.publisher for publication in publications} == set(mcu.publishers.values())
        assert not [publication for publication in publications if publication.lost]
        subscriptions = list(streams.subscriptions())
        for subscription in subscriptions:  # no subscription waits for a stream that it could receive
            assert subscription.established != subscription.lost
            assert subscription.established or not streams.has_publication(subscription.key) or mcu.publish_error
            assert subscription.established or harness.hub.find(subscription.session.backend, subscription.publisher_id)
        received = [subscription._subscriber for subscription in subscriptions if subscription.established]
        assert set(received) == set(mcu.subscribers)
        assert len(received) == len(mcu.subscribers)
        assert not [subscriber for subscriber in mcu.subscribers if subscriber.publisher.closed]
        assert len(harness.services.tasks) == 0
        for client in scenario.clients:
            client.disconnect()
        await harness.sweep(31)
        await settle()
        assert harness.hub.sessions == {}
        assert mcu.is_empty
        assert streams._sessions == {}
        assert streams._subscriptions == {}
        quality = harness.media.quality
        assert [quality._published, quality._subscribed, quality._due, quality._planner._decodable] == [{}] * 4
        assert harness.media.open_streams == (0, 0)
        assert len(harness.services.tasks) == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_registry_and_sfu_have_the_same_streams_and_in_the_end_none(
    caplog: pytest.LogCaptureFixture, steps: list[Step]
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play(steps))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
