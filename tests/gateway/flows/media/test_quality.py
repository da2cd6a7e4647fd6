"""The quality policy at work: who is told which limit and when, and what becomes of the codecs of an offer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import Backend, BackendQuality, Quality
from gateway.core.room import RoomKey
from gateway.flows.media.quality import RETRY
from gateway.flows.settings import MediaLimits
from mcu.base import CloseReason, Rejected, StreamType
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.descriptions import answer, description, offer
from tests.gateway.flows.media.fake_mcu import FakePublisher
from tests.gateway.flows.virtual_time import VirtualLoop, settle

SOON = 2.0  # seconds in which what changed is decided and sent
ROOM = RoomKey("cloud", "r")


def backend(**quality: int | tuple[str, ...]) -> Backend:
    rules = BackendQuality(**quality)  # type: ignore[arg-type]  # each test gives what its key takes
    return Backend("cloud", ("https://cloud.example/",), "secret of the cloud", quality=rules)


def harness_with(**quality: int | tuple[str, ...]) -> FlowHarness:
    return FlowHarness(backend(**quality), limits=MediaLimits(stream_bitrate=1_000_000, screen_bitrate=2_000_000))


async def publishers(harness: FlowHarness, *userids: str) -> list[FakeClient]:
    clients = []
    for userid in userids:
        client = await harness.member(userid, in_call=True, backend=next(iter(harness.services.backends)))
        client.offer(userid)
        clients.append(client)
    await settle()
    return clients


def on_sfu(client: FakeClient, kind: StreamType = StreamType.VIDEO) -> FakePublisher:
    publisher = client.harness.publisher(client, kind)
    assert publisher is not None
    return publisher


def told(*clients: FakeClient) -> list[int | None]:
    """Return what each was told last."""
    return [limits[-1] if (limits := on_sfu(it).limits) else None for it in clients]


# reference 9.2-h
async def test_share_is_told_with_the_answer_which_does_not_wait_for_it() -> None:
    async with harness_with(room_budget=400_000) as harness:
        (alice,) = await publishers(harness, "alice")
        assert told(alice) == [400_000]
        bob = await harness.member("bob", backend=backend(room_budget=400_000))
        harness.mcu.limit_gate = asyncio.Event()
        bob.offer("bob")
        await settle()
        assert [it["type"] for it in bob.data()] == ["answer"]
        harness.mcu.limit_gate.set()
        await settle()
        assert told(bob) == [200_000]


async def test_shares_follow_who_comes_and_goes_in_two_seconds() -> None:
    async with harness_with(room_budget=600_000, floor=50_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [300_000, 300_000]
        carol, dave = await publishers(harness, "carol", "dave")
        await asyncio.sleep(SOON)
        assert told(alice, bob, carol, dave) == [150_000] * 4
        harness.set_in_call("r", "dave", flags=0)  # leaves the call
        carol.send({"type": "room", "room": {"roomid": ""}})
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [300_000, 300_000]
        on_sfu(bob).end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)  # the SFU says so
        await asyncio.sleep(SOON)
        assert told(alice) == [600_000]


async def test_many_that_come_at_once_cost_one_decision() -> None:
    async with harness_with(room_budget=900_000) as harness:
        (alice,) = await publishers(harness, "alice")
        await asyncio.sleep(SOON)
        await publishers(harness, *"bcdefghi")
        await asyncio.sleep(SOON)
        assert on_sfu(alice).limits == [900_000, 100_000]


async def test_screen_comes_first() -> None:
    async with harness_with(room_budget=600_000, floor=100_000, screen=400_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        alice.offer("screen", sid="2", roomType="screen", media=("video",))
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [100_000, 100_000]
        assert on_sfu(alice, StreamType.SCREEN).limits == [400_000]
        alice.media(alice, "unshareScreen", room_type="screen")
        await asyncio.sleep(SOON + 1.0)
        assert told(alice, bob) == [300_000, 300_000]


async def test_sound_alone_takes_no_share_until_a_picture_is_added() -> None:
    async with harness_with(room_budget=600_000) as harness:
        (alice,) = await publishers(harness, "alice")
        bob = await harness.member("bob", in_call=True, backend=backend(room_budget=600_000))
        bob.offer("bob", media=("audio",))
        await asyncio.sleep(SOON)
        assert told(alice) == [600_000]
        assert on_sfu(bob).limits == []
        bob.offer("bob", media=("audio", "video"))
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [300_000, 300_000]
        inactive = description("bob", setup="actpass").replace("a=sendrecv", "a=inactive")
        bob.media(bob, "offer", payload={"type": "offer", "sdp": inactive})
        await asyncio.sleep(SOON)
        assert told(alice) == [600_000]


async def test_a_call_of_two_has_more_until_a_third_watches() -> None:
    async with harness_with(ceiling=300_000, one_to_one=700_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [700_000, 700_000]
        carol = await harness.member("carol", in_call=True, backend=backend())
        carol.media(alice, "requestoffer")
        await settle()
        carol.media(alice, "answer", payload={"type": "answer", "sdp": answer()})
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [300_000, 300_000]
        harness.set_in_call("r", "carol", flags=0)
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [700_000, 700_000]


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("reason", [None, CloseReason.FAILED])
async def test_one_whose_subscription_ends_counts_no_more(answers: bool, reason: CloseReason | None) -> None:
    async with harness_with(ceiling=300_000, one_to_one=700_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        carol = await harness.member("carol", in_call=True, backend=backend())
        carol.media(alice, "requestoffer")
        await settle()
        if answers:
            carol.media(alice, "answer", payload={"type": "answer", "sdp": answer()})
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [300_000, 300_000]
        (subscription,) = harness.mcu.subscribers
        if reason is None:
            carol.send({"type": "room", "room": {"roomid": ""}})
        else:
            subscription.end(reason)
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [700_000, 700_000]


async def test_without_rules_nobody_is_told_anything() -> None:
    async with harness_with() as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        assert (on_sfu(alice).limits, on_sfu(bob).limits) == ([], [])
        assert len(harness.services.tasks) == 0


async def test_what_its_client_asked_for_is_never_exceeded() -> None:
    async with harness_with(room_budget=900_000) as harness:
        alice = await harness.member("alice", in_call=True, backend=backend(room_budget=900_000))
        alice.offer("alice", bitrate=120_000)
        (bob,) = await publishers(harness, "bob")
        await asyncio.sleep(SOON)
        assert on_sfu(alice).options.bitrate == 120_000
        assert on_sfu(alice).limits == []  # it has that from the start
        assert told(bob) == [780_000]


async def test_a_limit_that_the_sfu_refuses_is_sent_again() -> None:
    async with harness_with(room_budget=600_000) as harness:
        (alice,) = await publishers(harness, "alice")
        await asyncio.sleep(SOON)
        publisher = on_sfu(alice)
        publisher.limit_error = Rejected("not now")
        await publishers(harness, "bob")
        await asyncio.sleep(SOON)
        assert told(alice) == [600_000]
        publisher.limit_error = None
        await asyncio.sleep(10.0)
        assert told(alice) == [300_000]


async def test_a_limit_that_waits_to_be_sent_again_holds_up_nobody() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        on_sfu(alice).limit_error = Rejected("not now")
        (carol,) = await publishers(harness, "carol")
        await asyncio.sleep(1.0)
        (dave,) = await publishers(harness, "dave")
        await asyncio.sleep(SOON)
        assert told(alice, bob, carol, dave) == [300_000, *[150_000] * 3]
        on_sfu(alice).limit_error = None
        await asyncio.sleep(6.0)
        assert told(alice) == [150_000]
        assert len(harness.services.tasks) == 0
        assert harness.media.quality._due == {}


async def test_what_the_sfu_has_not_answered_is_not_said_to_be_taken() -> None:
    async with harness_with(room_budget=600_000) as harness:
        gate = harness.mcu.limit_gate = asyncio.Event()
        await publishers(harness, "alice")
        await asyncio.sleep(SOON)
        (decision,) = harness.media.quality.explain(ROOM)
        assert (decision.applied, decision.confirmed) == (True, False)
        gate.set()
        await settle()
        (decision,) = harness.media.quality.explain(ROOM)
        assert decision.confirmed


async def test_nothing_is_sent_again_to_who_is_gone() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        publisher, gate = on_sfu(alice), asyncio.Event()
        publisher.limit_gate, publisher.limit_error = gate, Rejected("gone")
        bob.send({"type": "bye", "bye": {}})
        await asyncio.sleep(1.0)
        alice.send({"type": "bye", "bye": {}})
        await settle()
        gate.set()
        await asyncio.sleep(SOON)
        assert len(harness.services.tasks) == 0


async def test_a_connection_that_replaces_another_is_told_too() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        alice.offer("again", sid="2")
        await settle()
        assert told(alice, bob) == [300_000, 300_000]
        assert len(on_sfu(alice).limits) == 1


async def test_a_stream_from_outside_counts_when_its_session_enters() -> None:
    async with harness_with(room_budget=600_000, ceiling=500_000) as harness:
        (alice,) = await publishers(harness, "alice")
        bob = await harness.hello("bob", backend())
        bob.offer("bob")
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [500_000, 500_000]
        bob.send({"type": "room", "room": {"roomid": "r", "sessionid": "nc-bob"}})
        await asyncio.sleep(SOON)
        assert told(alice, bob) == [300_000, 300_000]


async def test_changed_rules_count_at_once_and_can_be_lifted() -> None:
    async with harness_with(room_budget=600_000) as harness:
        alice, bob = await publishers(harness, "alice", "bob")
        await asyncio.sleep(SOON)
        for changed, expected in ((backend(room_budget=200_000), 100_000), (backend(), 1_000_000)):
            harness.change_settings(backends=type(harness.services.backends)([changed]))
            await asyncio.sleep(SOON)
            assert [on_sfu(it).limits[-1] for it in (alice, bob)] == [expected, expected]


async def test_changed_rules_count_outside_of_rooms_too() -> None:
    async with harness_with(ceiling=500_000) as harness:
        alice = await harness.hello("alice", backend())
        alice.offer("alice")
        await asyncio.sleep(SOON)
        harness.change_settings(backends=type(harness.services.backends)([backend(ceiling=200_000)]))
        await asyncio.sleep(SOON)
        assert on_sfu(alice).limits == [500_000, 200_000]


async def test_backends_that_say_nothing_have_the_common_rules() -> None:
    async with harness_with() as harness:
        harness.change_settings(quality=Quality(room_budget=500_000))
        assert told(*await publishers(harness, "alice", "bob"))[1] == 250_000


# reference 4.1-k
@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (BackendQuality(), {"maxstreambitrate": 1_000_000, "maxscreenbitrate": 2_000_000}),
        (BackendQuality(ceiling=300_000), {"maxstreambitrate": 300_000, "maxscreenbitrate": 2_000_000}),
        (
            BackendQuality(room_budget=800_000, ceiling=300_000, one_to_one=700_000),
            {"maxstreambitrate": 700_000, "maxscreenbitrate": 800_000},
        ),
    ],
)
async def test_room_reply_names_what_a_stream_may_have_at_most(
    quality: BackendQuality, expected: dict[str, int]
) -> None:
    cloud = Backend("cloud", ("https://cloud.example/",), "secret of the cloud", quality=quality)
    async with FlowHarness(cloud, limits=MediaLimits(1_000_000, 2_000_000)) as harness:
        alice = await harness.hello("alice", cloud)
        alice.send({"id": "1", "type": "room", "room": {"roomid": "r", "sessionid": "nc-alice"}})
        await settle()
        assert alice.received()[0]["room"]["bandwidth"] == expected


# -- codecs

VP8_ONLY = offer("carol").replace("96 102", "96").replace("a=rtpmap:102 H264/90000\r\n", "")


def formats(publisher: FakePublisher) -> str:
    return next(line for line in publisher.offer.split("\r\n") if line.startswith("m=video")).partition("SAVPF ")[2]


# reference 9.2-h
async def test_server_s_list_removes_and_orders() -> None:
    async with harness_with(videocodecs=("h264",)) as harness:
        (alice,) = await publishers(harness, "alice")
        assert formats(on_sfu(alice)) == "102"
        assert "rtpmap:96" not in on_sfu(alice).offer
        assert on_sfu(alice).options.videocodecs == ("h264",)
        bob = await harness.member("bob", backend=backend())
        bob.offer("bob", videocodec="vp8")  # the list goes first
        await settle()
        assert formats(on_sfu(bob)) == "102"


async def test_what_the_room_cannot_decode_comes_last_for_new_connections_only() -> None:
    async with harness_with() as harness:
        alice, bob = [await harness.member(it, in_call=True, backend=backend()) for it in ("alice", "bob")]
        alice.offer("alice", videocodec="h264")
        await settle()
        assert formats(on_sfu(alice)) == "102 96"
        bob.send_message(bob, {"type": "offer", "roomType": "video", "payload": {"type": "offer", "sdp": VP8_ONLY}})
        await settle()
        alice.offer("alice", videocodec="h264")
        await settle()
        (updated,) = on_sfu(alice).updates
        assert "SAVPF 102 96" in updated  # the running connection keeps its codec
        alice.offer("anew", sid="2", videocodec="h264")
        await settle()
        assert formats(on_sfu(alice)) == "96 102"
        (decision,) = [it for it in harness.media.quality.explain(ROOM) if it.stream.session.id == alice.sessionid]
        reason = "last come the codecs that not all of 1 receiver decode: h264"
        assert decision.plan.decided["video"].reason == f"the publisher prefers it; {reason}"


async def test_a_receiver_that_refuses_what_is_sent_is_counted() -> None:
    async with harness_with() as harness:
        (alice,) = await publishers(harness, "alice")
        bob = await harness.member("bob", in_call=True, backend=backend())
        bob.media(alice, "requestoffer")
        await settle()
        refusing = answer().replace("m=video 9", "m=video 0")
        bob.media(alice, "answer", payload={"type": "answer", "sdp": refusing})
        await settle()
        (decision,) = harness.media.quality.explain(ROOM)
        assert decision.plan.chosen == {"audio": "opus", "video": "vp8"}
        assert harness.media.quality.count_incapable(decision) == {"video": 1}
        alice.offer("anew", sid="2")
        await settle()
        assert formats(on_sfu(alice)) == "102 96"


async def test_a_picture_that_is_added_later_is_ordered_then() -> None:
    async with harness_with(videocodecs=("h264", "vp8")) as harness:
        alice = await harness.member("alice", backend=backend())
        alice.offer("alice", media=("audio",))
        await settle()
        assert on_sfu(alice).options.videocodecs == ("h264", "vp8")  # what the SFU is told when there is none yet
        alice.offer("alice", media=("audio", "video"))
        await settle()
        (updated,) = on_sfu(alice).updates
        assert "SAVPF 102 96" in updated


async def test_star_is_no_codec_where_nothing_is_offered() -> None:
    async with harness_with(videocodecs=("h264", "*")) as harness:
        bob = await harness.member("bob", backend=backend())
        bob.offer("bob")
        alice = await harness.member("alice", backend=backend())
        alice.offer("alice", media=("audio",), videocodec="vp8")
        await settle()
        assert on_sfu(alice).options.videocodecs == ("h264", "vp8")
        (decision,) = [it for it in harness.media.quality.explain(ROOM) if it.stream.session.id == alice.sessionid]
        assert decision.plan.decided["video"].reason == "the server's list says so"


async def test_codecs_that_do_not_exist_are_neither_learnt_nor_told() -> None:
    async with harness_with(videocodecs=("vp8",)) as harness:
        alice = await harness.member("alice", backend=backend())
        strange = offer("alice").replace("H264", "X-NEW")
        for _ in range(2):
            alice.media(alice, "offer", payload={"type": "offer", "sdp": strange}, videocodec="X-NEW")
            await settle()
        (decision,) = harness.media.quality.explain(ROOM)
        assert decision.plan.offered == {"audio": ("opus",), "video": ("vp8",)}
        assert decision.plan.decided["video"].order == ("vp8",)
        decoder = harness.media.quality._planner.decoder(alice.session.id, "video")
        assert decoder.offered == frozenset({"vp8"})


async def test_an_empty_room_has_nothing_to_explain() -> None:
    async with harness_with(room_budget=600_000) as harness:
        assert harness.media.quality.explain(ROOM) == []
        await harness.member("alice", backend=backend())
        assert harness.media.quality.explain(ROOM) == []


async def test_answers_for_a_publisher_that_is_gone_teach_nothing() -> None:
    async with harness_with() as harness:
        (alice,) = await publishers(harness, "alice")
        bob = await harness.member("bob", in_call=True, backend=backend())
        bob.media(alice, "requestoffer")
        await settle()
        publisher = harness.mcu.subscribers[0]
        publisher.gate = asyncio.Event()
        bob.media(alice, "answer", payload={"type": "answer", "sdp": answer()})
        await settle()
        harness.mcu.publishers.clear()
        harness.media.end(alice.session)
        publisher.gate.set()
        await settle()
        assert harness.media.quality.explain(ROOM) == []


# -- any order of events


EVENTS = (
    "camera",
    "screen",
    "sound",
    "leave call",
    "leave room",
    "sfu drops",
    "sfu refuses",
    "watch",
    "ask only",
    "receiver fails",
    "wait",
)
steps = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 3)), max_size=25)


async def play(happens: list[tuple[str, int]]) -> None:
    """Let it happen, and see two seconds later that the policy holds; where the SFU refused, soon after it does not."""
    names = ("alice", "bob", "carol", "dave")
    rules = backend(room_budget=700_000, floor=100_000, ceiling=300_000, one_to_one=500_000, screen=400_000)
    async with FlowHarness(rules, limits=MediaLimits(1_000_000, 2_000_000)) as harness:
        clients = [await harness.member(name, in_call=True, backend=rules) for name in names]
        for event, number in happens:
            client = clients[number]
            match event:
                case "camera":
                    client.offer(names[number])
                case "screen":
                    client.offer(f"{number}", sid="2", roomType="screen", media=("video",))
                case "sound":
                    client.offer(names[number], media=("audio",))
                case "leave call":
                    harness.set_in_call("r", names[number], flags=0)
                    harness.set_in_call("r", names[number])
                case "leave room":
                    client.send({"type": "room", "room": {"roomid": ""}})
                    client.send({"type": "room", "room": {"roomid": "r", "sessionid": f"nc-{names[number]}"}})
                case "sfu drops":
                    for publisher in list(harness.mcu.publishers.values())[:1]:
                        publisher.end(CloseReason.PUBLISHER_GONE, CloseReason.FAILED)
                case "watch":
                    client.media(clients[number - 1], "requestoffer")
                    await settle()
                    client.media(clients[number - 1], "answer", payload={"type": "answer", "sdp": answer()})
                case "sfu refuses":
                    for publisher in list(harness.mcu.publishers.values())[number:][:1]:
                        publisher.limit_error = Rejected("not now")
                case "ask only":
                    client.media(clients[number - 1], "requestoffer")
                case "receiver fails":
                    for subscription in harness.mcu.subscribers[number:][:1]:
                        subscription.end(CloseReason.FAILED)
                case "wait":
                    await asyncio.sleep(0.7)
            await settle()
        await asyncio.sleep(SOON)
        refusing = [it for it in harness.mcu.publishers.values() if it.limit_error is not None]
        keep_to_the_policy(harness, but=refusing)
        for publisher in refusing:
            publisher.limit_error = None
        await asyncio.sleep(RETRY + SOON)
        keep_to_the_policy(harness)
        assert all(it.confirmed for it in harness.media.quality.explain(ROOM))
        assert harness.media.quality._due == {}


def keep_to_the_policy(harness: FlowHarness, but: Sequence[FakePublisher] = ()) -> None:
    """See that everybody was told what the policy says of the room as it is."""
    decisions = harness.media.quality.explain(ROOM)
    assert {it.publisher for it in decisions} == set(harness.mcu.publishers.values())
    for decision in decisions:
        publisher = harness.mcu.publishers[decision.stream.key]
        ceiling = 2_000_000 if decision.stream.stream_type is StreamType.SCREEN else 1_000_000
        assert publisher in but or (publisher.limits or [ceiling])[-1] == decision.share.bitrate
    assert sum(it.share.bitrate for it in decisions if "video" in it.plan.sent) <= 700_000


@given(steps)
@settings(max_examples=60)
def test_two_seconds_after_anything_the_policy_holds(happens: list[tuple[str, int]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play(happens))
