"""Media under any order of events: what the sessions hold is what is on the SFU, and in the end nothing is there."""

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

Step = tuple[str, int, int]
VERBS = (
    *("offer", "offer anew", "offer screen", "request", "request", "request screen", "refresh", "sendoffer"),
    *("answer", "candidate", "select", "unshare", "lose", "resume", "leave call", "enter call", "leave room", "join"),
    *("revoke", "permit", "hold publish", "hold subscribe", "hold verbs", "release", "publish fails", "sfu drops"),
    *("sfu is lost", "sfu goes", "sfu is back", "one subscription is lost", "settle", "second", "long time"),
)
steps = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


class Play:
    """Carries out steps; clients that are away stay so until they resume."""

    def __init__(self, harness: FlowHarness, clients: list[FakeClient]) -> None:
        self.harness = harness
        self.clients = clients
        self.away = [False] * len(clients)
        self.gate = asyncio.Event()
        self.connections = 0

    async def do(self, step: Step) -> None:
        verb, one, two = step
        harness, client, other = self.harness, self.clients[one], self.clients[two]
        mcu, name = harness.mcu, NAMES[one]
        says = not self.away[one]
        match verb:
            case "offer" if says:
                client.offer()
            case "offer anew" if says:
                self.connections += 1
                client.offer(f"c{self.connections}", sid=str(self.connections))
            case "offer screen" if says:
                self.connections += 1
                client.offer(f"c{self.connections}", sid=str(self.connections), roomType="screen")
            case "request" if says:
                client.media(other, "requestoffer")
            case "request screen" if says:
                client.media(other, "requestoffer", room_type="screen")
            case "refresh" if says:
                for subscription in list(harness.media._streams.of(client.session).subscriptions.values()):
                    client.media(other, "requestoffer", sid=subscription.sid)
            case "sendoffer" if says:
                client.media(other, "sendoffer", room_type="screen")
            case "answer" if says:
                client.media(other, "answer", payload={"type": "answer", "sdp": answer()})
            case "candidate" if says:
                client.media(other, "candidate", payload={"candidate": {"candidate": CANDIDATE}})
            case "select" if says:
                client.media(other, "selectStream", payload={"video": False})
            case "unshare" if says:
                client.media(client, "unshareScreen", room_type="screen")
            case "lose" if says:
                client.disconnect()
                self.away[one] = True
            case "resume":
                self.clients[one] = await harness.resume(client)
                self.away[one] = False
            case "leave call" | "enter call":
                harness.set_in_call("r", name, flags=7 * (verb == "enter call"))
            case "leave room" if says:
                client.send({"type": "room", "room": {"roomid": ""}})
            case "join" if says:
                client.send({"type": "room", "room": {"roomid": "r", "sessionid": f"nc-{name}"}})
            case "revoke" | "permit":
                names = ["publish-media", "publish-screen"] if verb == "permit" else ["publish-audio"]
                changed = [{"sessionId": f"nc-{name}", "permissions": names}]
                harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})
            case "hold publish":
                mcu.publish_gate = self.gate
            case "hold subscribe":
                mcu.subscribe_gate = self.gate
            case "hold verbs":
                for publisher in mcu.publishers.values():
                    publisher.gate = self.gate
                for subscriber in mcu.subscribers:
                    subscriber.gate = self.gate
            case "release":
                self.release()
            case "publish fails":
                mcu.publish_error = None if mcu.publish_error else Rejected("no")
            case "sfu drops":
                for publisher in list(mcu.publishers.values())[:1]:
                    publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
            case "sfu is lost":
                for publisher in list(mcu.publishers.values()):
                    publisher.error = McuLost("gone")
                    publisher.end(CloseReason.LOST, CloseReason.LOST)
            case "sfu goes":
                mcu.lose_streams()
            case "sfu is back":
                await mcu.recover()
            case "one subscription is lost":
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
        play = Play(harness, clients)
        for step in steps:
            await play.do(step)
        play.release()
        await harness.mcu.recover()
        await asyncio.sleep(1000)  # each request that waits for its publisher takes its ten seconds
        mcu, streams = harness.mcu, harness.media._streams
        assert mcu.pending_calls == 0
        publications = list(streams.publications())
        assert {it.publisher for it in publications} == set(mcu.publishers.values())
        assert not [it for it in publications if it.awaited]
        subscriptions = list(streams.subscriptions())
        for subscription in subscriptions:  # none waits for a stream that it could receive
            assert subscription.on_sfu != subscription.awaited
            assert subscription.on_sfu or not streams.has_publication(subscription.key) or mcu.publish_error
            assert subscription.on_sfu or harness.hub.find(subscription.session.backend, subscription.publisher_id)
        received = [it._subscriber for it in subscriptions if it.on_sfu]
        assert set(received) == set(mcu.subscribers)
        assert len(received) == len(mcu.subscribers)
        assert not [it for it in mcu.subscribers if it.publisher.closed]
        assert len(harness.services.tasks) == 0
        for client in play.clients:
            client.disconnect()
        await harness.sweep(31)
        await settle()
        assert harness.hub.sessions == {}
        assert mcu.is_empty
        assert streams._sessions == {}
        assert streams._subscriptions == {}
        quality = harness.media.quality
        assert [quality._published, quality._subscribed, quality._due, quality._planner._decoders] == [{}] * 4
        assert harness.media.open_streams == (0, 0)
        assert len(harness.services.tasks) == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_sessions_hold_what_is_on_the_sfu_and_leave_nothing(
    caplog: pytest.LogCaptureFixture, steps: list[Step]
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play(steps))
    assert not [it for it in caplog.records if it.levelno >= logging.ERROR]
