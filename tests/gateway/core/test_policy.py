"""The quality policy: what each stream may use, the order of codecs, and the sentences that say why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import BackendQuality, Quality
from gateway.core.policy import Decoder, Stream, codecs, greatest, shares

CAMERA = Stream(screen=False)
SCREEN = Stream(screen=True)

rates = st.integers(64_000, 5_000_000)
maybe = st.one_of(st.just(0), rates)


@st.composite
def qualities(draw: st.DrawFn) -> Quality:
    floor = draw(st.integers(16_000, 400_000))
    ceiling = draw(st.one_of(st.just(0), st.integers(floor, 2_000_000)))
    return Quality(
        room_budget=draw(rates), floor=floor, ceiling=ceiling, one_to_one=draw(maybe), screen=draw(maybe_from(floor))
    )


def maybe_from(floor: int) -> st.SearchStrategy[int]:
    return st.one_of(st.just(0), st.integers(floor, 2_000_000))


streams = st.builds(Stream, screen=st.booleans(), video=st.booleans(), asked=maybe, limit=maybe)
calls = st.lists(streams, min_size=1, max_size=30)


@given(qualities(), calls, st.integers(0, 40))
def test_sum_of_shares_is_never_above_the_budget(quality: Quality, call: list[Stream], sessions: int) -> None:
    found = shares(quality, call, sessions)
    pictures = [share.bitrate for share, stream in zip(found, call, strict=True) if stream.video]
    assert sum(pictures) <= quality.room_budget
    assert all(bits > 0 for bits in pictures)  # 0 would be no limit at all


@given(qualities(), calls, st.integers(0, 40))
def test_ceilings_and_own_limits_are_kept(quality: Quality, call: list[Stream], sessions: int) -> None:
    for share, stream in zip(shares(quality, call, sessions), call, strict=True):
        if stream.screen:
            ceiling = quality.screen
        elif sessions <= 2:
            ceiling = max(quality.ceiling, quality.one_to_one) if quality.ceiling else 0
        else:
            ceiling = quality.ceiling
        for most in (ceiling, stream.asked, stream.limit):
            assert not most or 0 < share.bitrate <= most
        limit = greatest(quality, stream.limit, screen=stream.screen)
        assert not limit or not stream.video or 0 < share.bitrate <= limit


@given(qualities(), calls, st.integers(0, 40))
def test_floor_is_kept_as_long_as_the_budget_has_it(quality: Quality, call: list[Stream], sessions: int) -> None:
    found = [(s.bitrate, stream) for s, stream in zip(shares(quality, call, sessions), call, strict=True)]
    pictures = [(bits, stream) for bits, stream in found if stream.video]
    if quality.floor * len(pictures) <= quality.room_budget:
        for bits, stream in pictures:
            assert bits >= min(quality.floor, stream.asked or quality.floor, stream.limit or quality.floor)


@given(qualities(), calls, streams, st.integers(0, 40), st.integers(0, 2))
def test_one_more_publisher_makes_no_share_greater(
    quality: Quality, call: list[Stream], newcomer: Stream, sessions: int, more: int
) -> None:
    before = shares(quality, call, sessions)
    after = shares(quality, [*call, newcomer], sessions + more)
    assert all(new.bitrate <= old.bitrate for new, old in zip(after, before, strict=False))


@given(qualities(), st.lists(st.just(CAMERA), min_size=3, max_size=20))
def test_cameras_alike_have_the_same_and_use_what_there_is(quality: Quality, call: list[Stream]) -> None:
    found = {share.bitrate for share in shares(quality, call, 9)}
    even = quality.room_budget // len(call)
    assert found == {min(even, quality.ceiling or even)}


def reasons(quality: Quality, *call: Stream, sessions: int = 9) -> list[tuple[int, str]]:
    return [(share.bitrate, share.reason) for share in shares(quality, call, sessions)]


def test_without_a_budget_each_stream_has_its_own_limit() -> None:
    assert reasons(Quality(), CAMERA) == [(0, "nothing limits it")]
    assert reasons(Quality(), Stream(screen=False, asked=500_000, limit=900_000)) == [
        (500_000, "its client asked for no more")
    ]
    assert reasons(Quality(), Stream(screen=True, limit=900_000)) == [(900_000, "screens are limited to 900 kbit/s")]
    assert reasons(Quality(), Stream(screen=False, limit=900_000)) == [(900_000, "cameras are limited to 900 kbit/s")]


def test_a_call_of_two_may_have_more() -> None:
    quality = Quality(ceiling=400_000, one_to_one=1_000_000)
    two = [(1_000_000, "a camera in a call of 2 may have up to 1000 kbit/s")] * 2
    assert reasons(quality, CAMERA, CAMERA, sessions=2) == two
    more = "a camera may have up to 400 kbit/s in a call of more than 2"
    assert reasons(quality, CAMERA, CAMERA, sessions=3) == [(400_000, more)] * 2
    assert reasons(Quality(ceiling=400_000), CAMERA, sessions=1)[0][0] == 400_000


def test_reasons_of_a_budget() -> None:
    quality = Quality(room_budget=600_000, floor=100_000, screen=450_000)
    assert reasons(quality, CAMERA) == [(600_000, "1 picture has the room's 600 kbit/s")]
    assert reasons(quality, CAMERA, CAMERA, Stream(screen=False, video=False)) == [
        (300_000, "2 pictures share the room's 600 kbit/s"),
        (300_000, "2 pictures share the room's 600 kbit/s"),
        (0, "no picture is sent, so nothing of the room's budget is taken"),
    ]
    assert reasons(quality, SCREEN, CAMERA) == [
        (450_000, "no screen may have more than 450 kbit/s"),
        (150_000, "1 camera has the 150 kbit/s that 1 screen left of the room's budget"),
    ]
    why = "2 screens come first, but for the floor of 2 cameras, within the room's 600 kbit/s"
    left = "2 cameras share the 200 kbit/s that 2 screens left of the room's budget"
    assert reasons(quality, SCREEN, SCREEN, CAMERA, CAMERA) == [(200_000, why)] * 2 + [(100_000, left)] * 2
    few = "7 pictures share the room's 600 kbit/s, which is less than the floor of 100 kbit/s for each"
    assert reasons(quality, *[CAMERA] * 6, SCREEN) == [(85_714, few)] * 7
    alone = Quality(room_budget=600_000)
    assert reasons(alone, SCREEN) == [(600_000, "1 screen comes first within the room's 600 kbit/s")]


def test_what_a_stream_that_asks_for_little_leaves_is_shared() -> None:
    modest = Stream(screen=False, asked=100_000)
    assert [bits for bits, _ in reasons(Quality(room_budget=700_000), modest, CAMERA, CAMERA)] == [
        100_000,
        300_000,
        300_000,
    ]


def test_greatest_bitrate_counts_what_the_policy_allows_at_best() -> None:
    assert greatest(Quality(), 1_000_000, screen=False) == 1_000_000
    assert greatest(Quality(), 0, screen=True) == 0
    quality = Quality(ceiling=300_000, one_to_one=700_000, screen=900_000)
    assert greatest(quality, 1_000_000, screen=False) == 700_000
    assert greatest(quality, 2_000_000, screen=True) == 900_000
    assert greatest(Quality(room_budget=200_000, ceiling=300_000), 1_000_000, screen=False) == 200_000


def test_backend_overrides_what_it_names() -> None:
    default = Quality(room_budget=1, ceiling=2, videocodecs=("vp8",))
    assert BackendQuality().with_defaults(default) == default
    assert default.limits_bitrate
    assert not Quality(videocodecs=("vp8",)).limits_bitrate
    own = BackendQuality(room_budget=0, videocodecs=())
    assert own.with_defaults(default) == Quality(ceiling=2)


# -- codecs

OFFERED = ("vp8", "vp9", "h264")


def test_without_rules_the_sfu_chooses() -> None:
    found = codecs((), (), OFFERED, ())
    assert (found.order, found.removed) == ((), frozenset())
    assert found.reason == "nobody has a wish, so the order is the SFU's"


def test_publisher_s_wish_comes_first_where_it_is_offered() -> None:
    found = codecs((), ("av1", "h264", "h264"), OFFERED, ())
    assert (found.order, found.removed, found.reason) == (("h264",), frozenset(), "the publisher wishes it so")


def test_server_s_list_decides_order_and_what_is_removed() -> None:
    found = codecs(("vp9", "vp8"), ("vp8", "h264"), OFFERED, ())
    assert (found.order, found.removed) == (("vp9", "vp8"), frozenset({"h264"}))
    assert found.reason == "the server's list says so, which is without h264"


def test_star_leaves_the_rest_to_the_publisher() -> None:
    found = codecs(("vp9", "*"), ("h264",), OFFERED, ())
    assert (found.order, found.removed) == (("vp9", "h264", "vp8"), frozenset())
    assert found.reason == "the server's list says so"


def test_list_of_nothing_that_is_offered_is_not_applied() -> None:
    found = codecs(("av1",), ("h264",), OFFERED, ())
    assert (found.order, found.removed) == (("h264",), frozenset())
    reason = "the server's list names nothing of what is offered, so it is not applied"
    assert found.reason == f"the publisher wishes it so; {reason}"


def test_what_a_receiver_cannot_decode_comes_last() -> None:
    receivers = (Decoder(), Decoder().offered(["vp8", "h264"]))
    found = codecs(("vp9", "vp8"), (), OFFERED, receivers)
    assert (found.order, found.removed) == (("vp8", "vp9"), frozenset({"h264"}))
    reason = "the server's list says so, which is without h264"
    assert found.reason == f"{reason}; last come those that not all of 2 receivers decode: vp9"
    assert codecs((), (), OFFERED, receivers).order == ("vp8", "h264", "vp9")
    assert codecs((), (), ("vp8", "h264"), receivers).order == ()


def test_receivers_that_nothing_suits_change_nothing() -> None:
    receivers = (Decoder().offered(["vp8"]), Decoder().offered(["h264"]))
    found = codecs((), ("h264",), ("vp8", "h264"), receivers)
    assert found.order == ("h264",)
    assert found.reason == "the publisher wishes it so; no codec left suits all of 2 receivers, so they change nothing"


def test_server_s_list_goes_before_what_receivers_decode() -> None:
    found = codecs(("vp9",), (), OFFERED, (Decoder().offered(["vp8"]),))
    assert (found.order, found.removed) == (("vp9",), frozenset({"vp8", "h264"}))
    assert found.reason.endswith("no codec left suits all of 1 receiver, so they change nothing")


@given(
    st.lists(st.sampled_from([*OFFERED, "av1", "*"])),
    st.lists(st.sampled_from([*OFFERED, "av1"])),
    st.lists(st.sampled_from([*OFFERED, "av1"]), min_size=1),
    st.lists(st.builds(Decoder, listed=st.frozensets(st.sampled_from([*OFFERED, "av1"])))),
)
def test_something_that_is_offered_always_stays(
    allowed: list[str], wished: list[str], offered: list[str], receivers: list[Decoder]
) -> None:
    found = codecs(allowed, wished, offered, receivers)
    left = set(offered) - found.removed
    assert left
    assert set(found.order) <= left
    assert len(set(found.order)) == len(found.order)


# -- what receivers decode


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [
        (Decoder(), True),
        (Decoder().offered([]), True),  # an offer without this kind
        (Decoder().offered(["vp8"]), True),
        (Decoder().offered(["h264"]), False),
        (Decoder().offered(["h264"]).offered(["vp8"]), True),  # camera and screen
        (Decoder().answered(["vp8"], accepted=True), True),
        (Decoder().answered(["h264"], accepted=True), True),
        (Decoder().answered(["vp8"], accepted=False), False),
        (Decoder().offered(["vp8"]).answered(["vp8"], accepted=False), True),  # it does not want it
        (Decoder().offered(["h264"]).answered(["vp8"], accepted=True), True),
        (Decoder().answered(["vp8"], accepted=False).answered(["vp8"], accepted=True), True),
        (Decoder().answered(["vp8"], accepted=True).answered(["vp8"], accepted=False), False),
    ],
)
def test_what_is_known_of_a_receiver(decoder: Decoder, expected: bool) -> None:
    assert decoder.can("vp8") is expected
